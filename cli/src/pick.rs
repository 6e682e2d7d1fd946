//! From what a person types to the dataset, run or version that is meant.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use store::{Dataset, ModelVersion, Run, Volumes};

/// What `latest` stands for: the newest.
const LATEST: &str = "latest";

/// A dataset by its id, the beginning of its id, its name, or `latest`.
pub fn dataset(volumes: &Volumes, asked: &str) -> Result<Dataset> {
    // A name that is a path too is a name first: ids are sure, paths are only explained.
    let ids = volumes.dataset_ids()?;
    if let Some(id) = ids.iter().find(|id| *id == asked) {
        return Ok(volumes.dataset(id)?);
    }
    let datasets = volumes.datasets()?;
    if asked == LATEST {
        return datasets.into_iter().next().ok_or_else(|| no_datasets(volumes));
    }
    let begins = |dataset: &Dataset| {
        let id = &dataset.manifest.id;
        !asked.is_empty() && (id.starts_with(asked) || id.strip_prefix("ds-").is_some_and(|id| id.starts_with(asked)))
    };
    let (named, others): (Vec<_>, Vec<_>) = datasets.into_iter().partition(|dataset| dataset.manifest.name == asked);
    let known = others.len() + named.len();
    let meant = if named.is_empty() { others.into_iter().filter(begins).collect() } else { named };
    match <[Dataset; 1]>::try_from(meant) {
        Ok([only]) => Ok(only),
        Err(several) if !several.is_empty() => {
            let ids: Vec<_> = several.iter().map(|dataset| dataset.manifest.id.as_str()).collect();
            bail!("{asked:?} may be any of {}; name one by its id", ids.join(", "))
        }
        Err(_) if Path::new(asked).exists() => {
            bail!("{asked} is no dataset but a path; make a dataset of it first: fovea dataset add {asked}")
        }
        Err(_) if known == 0 => Err(no_datasets(volumes)),
        Err(_) => bail!("there is no dataset {asked:?}; `fovea dataset list` lists them"),
    }
}

fn no_datasets(volumes: &Volumes) -> anyhow::Error {
    anyhow!("there are no datasets in {}; make one: fovea dataset add PATH", volumes.datasets_dir().display())
}

/// A run by its id, the beginning of its id, its name, or `latest`.
pub fn run(volumes: &Volumes, asked: &str) -> Result<Run> {
    let runs = volumes.runs()?;
    if asked == LATEST {
        let newest = runs.into_iter().next();
        return newest.ok_or_else(|| anyhow!("there are no runs yet; begin one: fovea train --dataset latest"));
    }
    let named = |run: &Run| !asked.is_empty() && run.label().is_ok_and(|label| label.name == asked);
    let begins = |run: &Run| !asked.is_empty() && run.id().starts_with(asked);
    let mut meant: Vec<Run> = runs.iter().filter(|run| run.id() == asked).cloned().collect();
    for is_meant in [&named as &dyn Fn(&Run) -> bool, &begins] {
        if meant.is_empty() {
            meant = runs.iter().filter(|run| is_meant(run)).cloned().collect();
        }
    }
    match <[Run; 1]>::try_from(meant) {
        Ok([only]) => Ok(only),
        Err(several) if !several.is_empty() => {
            let ids: Vec<_> = several.iter().map(Run::id).collect();
            bail!("{asked:?} may be any of {}; name one by its id", ids.join(", "))
        }
        Err(_) => bail!("there is no run {asked:?}; `fovea runs` lists them"),
    }
}

/// A model and perhaps one of its versions: `classifier`, `classifier@v3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    name: String,
    version: Option<u32>,
}

impl std::str::FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => {
                let number = version.strip_prefix('v').unwrap_or(version).parse().ok().filter(|n| *n > 0);
                (name, Some(number.ok_or("expected a name and perhaps a version, like classifier or classifier@v3")?))
            }
        };
        store::check_name("model", name).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), version })
    }
}

/// The version that is meant: the one in use unless another one is named.
pub fn version(volumes: &Volumes, asked: &ModelName) -> Result<ModelVersion> {
    let ModelName { name, version } = asked;
    let version = match version {
        Some(version) => *version,
        None => match volumes.current(name)? {
            Some(version) => version,
            None => return Err(nothing_in_use(volumes, name)?),
        },
    };
    volumes.version(name, version).with_context(|| "`fovea models` lists what there is")
}

fn nothing_in_use(volumes: &Volumes, name: &str) -> Result<anyhow::Error> {
    let known = volumes.model_names()?;
    Ok(match volumes.version_numbers(name)?.first() {
        Some(newest) => anyhow!("no version of {name} is in use; name one, like {name}@v{newest}"),
        None if known.is_empty() => anyhow!("there are no models yet; train one: fovea train --dataset latest"),
        None => anyhow!("there is no model {name:?}; there are: {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_name_and_perhaps_a_version() {
        let read = |text: &str| text.parse::<ModelName>();
        let name = "classifier".to_owned();
        assert_eq!(read("classifier"), Ok(ModelName { name: name.clone(), version: None }));
        for text in ["classifier@v3", "classifier@3"] {
            assert_eq!(read(text), Ok(ModelName { name: name.clone(), version: Some(3) }));
        }
        for wrong in ["", "../up", "classifier@", "classifier@v0", "classifier@latest"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
