//! The form that shares a function's requests out among its revisions: its fields, and the way back from what was typed.
//!
//! It edits percentages; tags that revisions have stay with them. What the parts must come to together is the runtime's
//! business.

use api::functions::{Phase, ServiceStatus, TrafficShare, TrafficTarget};

use crate::form::Typed;

/// Field of the latest ready revision, whichever that is.
const LATEST: &str = "latest";

/// Field of the buttons that give everything to one.
const ALL: &str = "all";

/// The form as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What it is about; while that stays the same, so does the form.
    pub basis: String,
    /// The latest ready revision, then every revision, newest first.
    pub parts: Vec<Part>,
    /// What is wrong and belongs to no field.
    pub error: Option<String>,
    /// Whether it is shown from the start.
    pub is_open: bool,
}

/// A field for a percentage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name as sent: `latest` or the revision's.
    pub field: String,
    /// The revision, as far as there is one.
    pub revision: Option<String>,
    /// As typed, or the present percentage.
    pub value: String,
    /// What is wrong with it.
    pub error: Option<String>,
    /// What the button does that gives it everything; none where it has everything, or cannot serve.
    pub button: Option<&'static str>,
}

impl Part {
    /// Whether it stands for the latest ready revision.
    pub fn is_latest(&self) -> bool {
        self.field == LATEST
    }
}

impl Split {
    /// The form with the present parts.
    pub fn of(service: &ServiceStatus) -> Self {
        let latest = Part {
            button: (service.latest_ready.is_some() && percent(service, LATEST) < 100).then_some("Promote"),
            revision: service.latest_ready.clone(),
            ..part(service, LATEST)
        };
        let pinned = service.revisions.iter().map(|revision| {
            let is_latest = service.latest_ready.as_ref() == Some(&revision.name);
            let has_all = percent(service, &revision.name) == 100;
            let can_be_gone_back_to = revision.phase == Phase::Ready && !is_latest && !has_all;
            let button = can_be_gone_back_to.then_some("Roll back");
            Part { button, revision: Some(revision.name.clone()), ..part(service, &revision.name) }
        });
        let parts: Vec<_> = std::iter::once(latest).chain(pinned).collect();
        let basis = parts.iter().map(|part| {
            let revision = part.revision.as_deref().unwrap_or_default();
            format!("{}:{revision}={}{}", part.field, part.value, part.button.unwrap_or_default())
        });
        Self { basis: basis.collect::<Vec<_>>().join(" "), parts, error: None, is_open: false }
    }

    /// The form with what was typed and what is wrong with it.
    ///
    /// A sentence that begins with a field's name is shown beside that field.
    pub fn refused(service: &ServiceStatus, typed: &Typed, wrong: String) -> Self {
        let mut split = Self { is_open: true, ..Self::of(service) };
        for part in &mut split.parts {
            if let Some(value) = typed.get(&part.field) {
                part.value.clone_from(value);
            }
        }
        let concerned = split.parts.iter_mut().find(|part| wrong.starts_with(&format!("{} is ", part.field)));
        match concerned {
            Some(part) => part.error = Some(wrong),
            None => split.error = Some(wrong),
        }
        split
    }
}

fn part(service: &ServiceStatus, field: &str) -> Part {
    let value = percent(service, field).to_string();
    Part { field: field.to_owned(), revision: None, value, error: None, button: None }
}

fn shares<'a>(service: &'a ServiceStatus, field: &'a str) -> impl Iterator<Item = &'a TrafficShare> {
    service.traffic.iter().filter(move |share| match field {
        LATEST => share.latest,
        revision => !share.latest && share.revision == revision,
    })
}

fn percent(service: &ServiceStatus, field: &str) -> u32 {
    shares(service, field).map(|share| share.percent).sum()
}

/// What was typed as wishes; an empty field wishes nothing.
///
/// # Errors
/// A sentence that begins with the name of the field that cannot be read.
pub fn parse(service: &ServiceStatus, typed: &Typed) -> Result<Vec<TrafficTarget>, String> {
    let mut fields: Vec<_> = Split::of(service).parts.into_iter().map(|part| part.field).collect();
    // A revision may have gone since the form was made; the runtime says so.
    let mut gone: Vec<_> = typed.iter().filter(|(field, _)| *field != ALL && !fields.contains(field)).collect();
    gone.sort();
    fields.extend(gone.into_iter().map(|(field, _)| field.clone()));
    let all = typed.get(ALL);
    if let Some(all) = all.filter(|all| !fields.contains(all)) {
        fields.push(all.clone());
    }
    let mut targets = vec![];
    for field in &fields {
        let percent = match all {
            Some(all) => {
                if all == field {
                    100
                } else {
                    0
                }
            }
            None => number(field, typed.get(field).map_or("", |value| value.trim()))?,
        };
        let tags: Vec<_> = shares(service, field).filter_map(|share| share.tag.clone()).collect();
        targets.extend(wishes(field, percent, &tags));
    }
    Ok(targets)
}

fn number(field: &str, value: &str) -> Result<i64, String> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| format!("{field} is {value:?}; expected a whole number from 0 to 100"))
}

/// One wish for the percentage, and one for each further tag; none for nothing at all.
fn wishes(field: &str, percent: i64, tags: &[String]) -> Vec<TrafficTarget> {
    let revision = (field != LATEST).then_some(field);
    let wish = |percent, tag: Option<&String>| TrafficTarget::part(revision, percent, tag.map(String::as_str));
    match tags {
        [] if percent == 0 => vec![],
        [] => vec![wish(percent, None)],
        [first, rest @ ..] => {
            let rest = rest.iter().map(|tag| wish(0, Some(tag)));
            std::iter::once(wish(percent, Some(first))).chain(rest).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use api::functions::RevisionStatus;

    use super::*;

    /// 10 % for the latest, f-3; 90 % for f-2, which has two tags; nothing for f-1, which cannot serve.
    fn service() -> ServiceStatus {
        let revision = |name: &str, phase| RevisionStatus { name: name.into(), phase, ..RevisionStatus::default() };
        let share = |revision: &str, percent, latest, tag: Option<&str>| TrafficShare {
            revision: revision.into(),
            percent,
            latest,
            tag: tag.map(str::to_owned),
            url: None,
        };
        ServiceStatus {
            latest_ready: Some("f-3".into()),
            traffic: vec![
                share("f-3", 10, true, None),
                share("f-2", 90, false, Some("a")),
                share("f-2", 0, false, Some("b")),
            ],
            revisions: vec![
                revision("f-3", Phase::Ready),
                revision("f-2", Phase::Ready),
                revision("f-1", Phase::Failed),
            ],
            ..ServiceStatus::default()
        }
    }

    fn typed(fields: &[(&str, &str)]) -> Typed {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Result<&[TrafficTarget], &str>) {
        let parsed = parse(&service(), &typed(fields));
        assert_eq!(parsed, expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn the_form_shows_the_present_parts_and_what_can_be_done_at_once() {
        let split = Split::of(&service());
        let shown: Vec<_> = split.parts.iter().map(|p| (p.field.as_str(), p.value.as_str(), p.button)).collect();
        assert_eq!(
            shown,
            [
                ("latest", "10", Some("Promote")),
                ("f-3", "0", None),
                ("f-2", "90", Some("Roll back")),
                ("f-1", "0", None)
            ]
        );
        let mut promoted = service();
        promoted.traffic = vec![TrafficShare { percent: 100, ..promoted.traffic[0].clone() }];
        assert_eq!(Split::of(&promoted).parts[0].button, None);
        assert_ne!(Split::of(&promoted).basis, split.basis);
    }

    #[test]
    fn percentages_are_edited_and_tags_stay() {
        check(
            &[("latest", "50"), ("f-2", " 30 "), ("f-3", "20"), ("f-1", "")],
            Ok(&[
                TrafficTarget::part(None, 50, None),
                TrafficTarget::part(Some("f-3"), 20, None),
                TrafficTarget::part(Some("f-2"), 30, Some("a")),
                TrafficTarget::part(Some("f-2"), 0, Some("b")),
            ]),
        );
    }

    #[test]
    fn one_button_gives_everything_to_one() {
        let tags = [TrafficTarget::part(Some("f-2"), 0, Some("a")), TrafficTarget::part(Some("f-2"), 0, Some("b"))];
        check(&[("all", "latest"), ("f-2", "90")], Ok(&[&[TrafficTarget::part(None, 100, None)][..], &tags].concat()));
        check(
            &[("all", "f-2"), ("latest", "nonsense")],
            Ok(&[TrafficTarget::part(Some("f-2"), 100, Some("a")), TrafficTarget::part(Some("f-2"), 0, Some("b"))]),
        );
    }

    #[test]
    fn a_revision_that_has_gone_is_the_runtimes_to_refuse() {
        let tags = [TrafficTarget::part(Some("f-2"), 0, Some("a")), TrafficTarget::part(Some("f-2"), 0, Some("b"))];
        check(&[("f-0", "100")], Ok(&[&tags[..], &[TrafficTarget::part(Some("f-0"), 100, None)]].concat()));
        check(&[("all", "f-0")], Ok(&[&tags[..], &[TrafficTarget::part(Some("f-0"), 100, None)]].concat()));
    }

    #[test]
    fn what_cannot_be_read_is_said_beside_its_field() {
        let wrong = "f-2 is \"most\"; expected a whole number from 0 to 100";
        check(&[("f-2", "most")], Err(wrong));
        let split = Split::refused(&service(), &typed(&[("f-2", "most")]), wrong.into());
        assert_eq!((split.parts[2].value.as_str(), split.parts[2].error.as_deref()), ("most", Some(wrong)));
        assert_eq!((split.error, split.is_open), (None, true));
        let split = Split::refused(&service(), &Typed::new(), "the sum is 90".into());
        assert_eq!(split.error.as_deref(), Some("the sum is 90"));
    }
}
