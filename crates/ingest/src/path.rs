//! Paths inside an upload, as strangers wrote them. None of them ever becomes a path on the disk.

/// Longest path that is looked at, in characters.
const LONGEST: usize = 1024;
/// Longest path that is shown of a file that was refused, in characters.
const SHOWN: usize = 255;

/// What a path inside an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UploadPath {
    /// A file: its path to show, the folders it lies in, and its own name.
    File(FilePath),
    /// Leads out of the upload; the path to show and the reason.
    Unsafe(String, &'static str),
    /// Nobody's picture: what systems and tools leave behind.
    Litter(String),
}

/// A harmless path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath {
    /// Folders and name with slashes between.
    pub shown: String,
    /// Folders, outermost first.
    pub folders: Vec<String>,
}

impl UploadPath {
    /// Reads a path; both kinds of slashes separate, for archives come from every system.
    pub fn parse(raw: &str) -> Self {
        let drive = matches!(raw.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if drive || raw.starts_with(['/', '\\']) {
            return Self::Unsafe(shown(raw), "the path is absolute");
        }
        if raw.chars().nth(LONGEST).is_some() {
            return Self::Unsafe(shown(raw), "the path has more than 1024 characters");
        }
        let mut parts: Vec<String> = vec![];
        for part in raw.split(['/', '\\']) {
            match part {
                "" | "." => {}
                ".." => return Self::Unsafe(shown(raw), "the path leads out of the upload"),
                _ => parts.push(printable(part).trim().to_owned()),
            }
        }
        let text = parts.join("/");
        if parts.iter().any(|part| is_litter(part)) {
            return Self::Litter(shown(&text));
        }
        match parts.pop() {
            Some(name) if !name.is_empty() => Self::File(FilePath { shown: text, folders: parts }),
            _ => Self::Unsafe(shown(raw), "the path has no file name"),
        }
    }
}

/// Without control characters, and without those that turn the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let invisible = |c: &char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !invisible(c)).collect()
}

/// As [`printable`], and shortened.
pub(crate) fn shown(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_litter(part: &str) -> bool {
    part.starts_with('.')
        || part == "__MACOSX"
        || ["thumbs.db", "desktop.ini", "ehthumbs.db"].contains(&part.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, folders: &[&str], shown: &str) {
        let folders = folders.iter().map(ToString::to_string).collect();
        assert_eq!(UploadPath::parse(raw), UploadPath::File(FilePath { shown: shown.into(), folders }));
    }

    #[test]
    fn harmless_paths_are_taken_apart() {
        check("cats/1.png", &["cats"], "cats/1.png");
        check("./cats//1.png", &["cats"], "cats/1.png");
        check("data\\cats\\1.png", &["data", "cats"], "data/cats/1.png");
        check("1.png", &[], "1.png");
        check(" big cats / 1.png", &["big cats"], "big cats/1.png");
        check("ca\u{7}ts/\u{202e}gnp.1", &["cats"], "cats/gnp.1");
        check("cats/a..b.png", &["cats"], "cats/a..b.png");
    }

    #[test]
    fn paths_that_lead_out_are_unsafe() {
        let long = "a/".repeat(1000);
        for raw in
            ["../1.png", "cats/../../1.png", "/etc/passwd", "\\x", "C:\\x.png", "c:x", "..\\x", "", "a/\u{1}", &long]
        {
            assert!(matches!(UploadPath::parse(raw), UploadPath::Unsafe(..)), "{raw:?}");
        }
    }

    #[test]
    fn what_systems_leave_behind_is_litter() {
        for raw in ["cats/.DS_Store", "__MACOSX/cats/._1.png", "cats/Thumbs.db", ".git/config", "cats/desktop.INI"] {
            assert!(matches!(UploadPath::parse(raw), UploadPath::Litter(_)), "{raw:?}");
        }
    }

    #[test]
    fn endless_names_are_shown_short() {
        assert_eq!(shown(&"ä".repeat(10_000)).chars().count(), SHOWN + 1);
    }
}
