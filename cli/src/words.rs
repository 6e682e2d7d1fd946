//! Figures and enumerations as words, the same in every command.

use api::{dataset::Split, train::Settings};

/// `0.905`, or a dash where there is none.
pub fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// `0.851-0.975` of the bounds of a share, or a dash where there are none.
pub fn interval(bounds: Option<[f64; 2]>) -> String {
    bounds.map_or_else(|| "-".to_owned(), |[least, most]| format!("{least:.3}-{most:.3}"))
}

/// `6.1 M`, `383 M` multiply-adds, or a dash where they are not known.
pub fn work(multiply_adds: Option<u64>) -> String {
    match multiply_adds.map(|n| n as f64 / 1e6) {
        Some(millions) if millions < 10.0 => format!("{millions:.1} M"),
        Some(millions) => format!("{millions:.0} M"),
        None => "-".to_owned(),
    }
}

/// `12 s`, `3 min 5 s`, `2 h 10 min`.
pub fn seconds(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 59.5 => format!("{s:.0} s"),
        s => {
            let s = s.round() as u64;
            match (s / 3600, s / 60 % 60) {
                (0, minutes) => format!("{minutes} min {} s", s % 60),
                (hours, minutes) => format!("{hours} h {minutes} min"),
            }
        }
    }
}

/// `512 B`, `14.2 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 picture`, `2 pictures`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// What is trained, in a few words: `fine_tune efficientnet-lite0 160 px`.
pub fn settings(settings: &Settings) -> String {
    let backbone = settings.backbone.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{backbone} {} px", settings.family.name(), settings.input_size)
}

/// The stages that a trainer tells of, for people.
pub fn stage(stage: &str) -> &str {
    match stage {
        "features" => "computing features",
        "search" => "searching",
        "evaluate" => "testing",
        "compare" => "comparing with the version in use",
        "export" => "exporting",
        "check" => "comparing engines",
        "calibrate" => "calibrating",
        "publish" => "publishing",
        other => other,
    }
}

/// A split as it is asked for.
pub fn split(name: &str) -> Result<Split, String> {
    let known = Split::ALL.into_iter().find(|split| split.name() == name);
    known.ok_or_else(|| format!("expected one of: {}", Split::ALL.map(Split::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_grow_coarser_as_they_grow_longer() {
        assert_eq!([0.0, 9.94, 9.95, 59.4].map(seconds), ["0.0 s", "9.9 s", "10 s", "59 s"]);
        assert_eq!([59.5, 185.0, 7_800.0].map(seconds), ["1 min 0 s", "3 min 5 s", "2 h 10 min"]);
        assert_eq!([999, 1000, 999_949, 999_950].map(bytes), ["999 B", "1.0 kB", "999.9 kB", "1.0 MB"]);
        assert_eq!((ratio(Some(0.9049)), ratio(None)), ("0.905".into(), "-".into()));
        assert_eq!([Some(6_120_000), Some(383_400_000), None].map(work), ["6.1 M", "383 M", "-"]);
        assert_eq!([interval(Some([0.8511, 1.0])), interval(None)], ["0.851-1.000", "-"]);
    }

    #[test]
    fn every_stage_has_words() {
        for name in api::train::STAGES {
            assert_ne!(stage(name), name);
        }
    }

    #[test]
    fn an_unknown_split_is_told_the_known_ones() {
        assert_eq!(split("test"), Ok(Split::Test));
        assert!(split("tset").is_err_and(|told| told.contains("train, validation, test")));
    }
}
