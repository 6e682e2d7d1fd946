//! The part of Go's templates that names are made with: text, `{{.Field}}` and `{{index .Map "key"}}`.
//!
//! Conditions, pipelines and functions are left out and refused.
//!
//! # Source
//! Go's `text/template`, for the texts of the errors.

use std::collections::BTreeMap;

use super::ConfigError;

/// A template, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    name: &'static str,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { field: String, line: usize, column: usize },
    Entry { map: String, key: String },
}

/// What a template is applied to.
pub(crate) trait TemplateData {
    /// Name of the type in errors.
    const TYPE: &'static str;
    /// A field that holds a text.
    fn text(&self, field: &str) -> Option<&str>;
    /// A field that holds a map.
    fn map(&self, field: &str) -> Option<&BTreeMap<String, String>>;
}

impl Template {
    /// A template without anything to replace.
    pub(crate) fn fixed(name: &'static str, text: &str) -> Self {
        Self { name, parts: vec![Part::Text(text.to_owned())] }
    }

    /// Reads a template; `name` is how errors call it.
    pub(crate) fn parse(name: &'static str, source: &str) -> Result<Self, ConfigError> {
        let mut parts = Vec::new();
        let mut position = 0;
        while let Some(offset) = source[position..].find("{{") {
            let open = position + offset;
            if open > position {
                parts.push(Part::Text(source[position..open].to_owned()));
            }
            let line = 1 + source[..open].matches('\n').count();
            let Some(length) = source[open..].find("}}") else {
                return Err(ConfigError::refused(format!("template: {name}:{line}: unclosed action")));
            };
            parts.push(action(name, source, open + 2, open + length, line)?);
            position = open + length + 2;
        }
        if position < source.len() {
            parts.push(Part::Text(source[position..].to_owned()));
        }
        Ok(Self { name, parts })
    }

    /// Puts the data in.
    pub(crate) fn render<D: TemplateData>(&self, data: &D) -> Result<String, ConfigError> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Entry { map, key } => {
                    let map = data.map(map).ok_or_else(|| self.unknown_field::<D>(map, 1, 0))?;
                    rendered.push_str(map.get(key).map_or("", String::as_str));
                }
                Part::Field { field, line, column } => {
                    rendered.push_str(data.text(field).ok_or_else(|| self.unknown_field::<D>(field, *line, *column))?);
                }
            }
        }
        Ok(rendered)
    }

    fn unknown_field<D: TemplateData>(&self, field: &str, line: usize, column: usize) -> ConfigError {
        let name = self.name;
        ConfigError::refused(format!(
            "template: {name}:{line}:{column}: executing \"{name}\" at <.{field}>: can't evaluate field {field} in type {}",
            D::TYPE
        ))
    }
}

fn action(name: &str, source: &str, start: usize, end: usize, line: usize) -> Result<Part, ConfigError> {
    let inside = &source[start..end];
    let unsupported = || {
        ConfigError::refused(format!(
            "template: {name}:{line}: only {{{{.Field}}}} and {{{{index .Map \"key\"}}}} are supported, not {{{{{inside}}}}}"
        ))
    };
    if let Some(field) = inside.trim().strip_prefix('.').filter(|field| is_identifier(field)) {
        let position = start + inside.len() - inside.trim_start().len();
        let line_start = source[..position].rfind('\n').map_or(0, |newline| newline + 1);
        return Ok(Part::Field { field: field.to_owned(), line, column: position - line_start });
    }
    let words: Vec<&str> = inside.split_whitespace().collect();
    match words[..] {
        ["index", map, key] => {
            let map = map.strip_prefix('.').filter(|map| is_identifier(map)).ok_or_else(unsupported)?;
            let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).ok_or_else(unsupported)?;
            Ok(Part::Entry { map: map.to_owned(), key: key.to_owned() })
        }
        _ => Err(unsupported()),
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Data(BTreeMap<String, String>);

    impl TemplateData for Data {
        const TYPE: &'static str = "test.Data";

        fn text(&self, field: &str) -> Option<&str> {
            (field == "Name").then_some("hello")
        }

        fn map(&self, field: &str) -> Option<&BTreeMap<String, String>> {
            (field == "Labels").then_some(&self.0)
        }
    }

    #[track_caller]
    fn check(source: &str, wanted: Result<&str, &str>) {
        let data = Data(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let rendered = Template::parse("t", source).and_then(|template| template.render(&data));
        assert_eq!(rendered.map_err(|error| error.to_string()), wanted.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn fields_and_entries_are_put_in() {
        check("plain", Ok("plain"));
        check("{{.Name}}", Ok("hello"));
        check("x-{{ .Name }}.{{index .Labels \"a\"}}{{index .Labels \"none\"}}-y", Ok("x-hello.b-y"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        check(
            "{{.NAme}}",
            Err("template: t:1:2: executing \"t\" at <.NAme>: can't evaluate field NAme in type test.Data"),
        );
        check("a\nb{{ .X}}", Err("template: t:2:4: executing \"t\" at <.X>: can't evaluate field X in type test.Data"));
        check("{{.Name", Err("template: t:1: unclosed action"));
        check(
            "{{if .Name}}",
            Err("template: t:1: only {{.Field}} and {{index .Map \"key\"}} are supported, not {{if .Name}}"),
        );
    }
}
