//! The pictures behind a number of a run.

use api::dataset::Split;
use askama::Template;

use super::ShownPicture;
use crate::{predictions::Wanted, runs::RunView};

/// `/runs/{id}/pictures`.
#[derive(Template)]
#[template(path = "pictures.html")]
pub struct Pictures {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The run.
    pub run: RunView,
    /// Every class.
    pub labels: Vec<String>,
    /// What is looked for.
    pub wanted: Wanted,
    /// How many there are.
    pub total: usize,
    /// Some of them, the least probable first.
    pub shown: Vec<ShownPicture>,
}

impl Pictures {
    fn splits(&self) -> [(&'static str, bool); 3] {
        Split::ALL.map(|split| (split.name(), self.wanted.split == Some(split)))
    }

    /// What is looked for, in words.
    fn heading(&self) -> String {
        let split = self.wanted.split.map(|split| format!("{} pictures", split.name()));
        let split = split.unwrap_or_else(|| "pictures".into());
        let of = self.wanted.label.as_ref().map(|label| format!(" of {label}")).unwrap_or_default();
        let taken = match &self.wanted.predicted {
            Some(label) => format!(" taken for {label}"),
            None if self.wanted.wrong => " taken for something else".into(),
            None => String::new(),
        };
        format!("{split}{of}{taken}")
    }

    fn before(&self) -> Option<String> {
        let offset = self.wanted.offset.checked_sub(self.wanted.limit);
        offset.or((self.wanted.offset > 0).then_some(0)).map(|offset| self.address(offset))
    }

    fn after(&self) -> Option<String> {
        let offset = self.wanted.offset + self.wanted.limit;
        (offset < self.total).then(|| self.address(offset))
    }

    fn address(&self, offset: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(split) = self.wanted.split {
            query.append_pair("split", split.name());
        }
        for (name, value) in [("label", &self.wanted.label), ("predicted", &self.wanted.predicted)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.wanted.wrong {
            query.append_pair("wrong", "on");
        }
        query.append_pair("offset", &offset.to_string());
        format!("/runs/{}/pictures?{}", self.run.id, query.finish())
    }
}
