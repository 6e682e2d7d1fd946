//! `fovea backbone`: pretrained networks that classifiers can be built on, those of the house and a person's own.

use std::{fs, io::Write, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use api::backbone::{BUILT_IN, BackboneManifest, SCHEMA};
use clap::{Args, Subcommand};
use predictor::backbone::{Interface, inspect};
use serde::Serialize;
use store::Volumes;

use crate::{
    existing, installed,
    table::{Side, Table},
};

/// ImageNet's mean and standard deviation per channel in 0..=255, which most published networks are fitted with.
const IMAGENET_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const IMAGENET_DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

/// What can be done with backbones.
#[derive(Subcommand)]
pub enum Command {
    /// Add a network of your own, an ONNX file; it stays frozen, heads are trained on its output
    Add(Box<Add>),
    /// List those that runs can ask for
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove one that was added; models made with it stay
    Remove {
        /// As `fovea backbone list` prints it
        name: String,
    },
}

/// What `fovea backbone add` can be told.
#[derive(Args)]
pub struct Add {
    /// ONNX file of operator set 13 to 17 with one input, float [N, 3, height, width]
    file: PathBuf,
    /// What runs call it
    #[arg(long)]
    name: String,
    /// SPDX identifier of the weights' licence, such as Apache-2.0; models made with it state it
    #[arg(long, value_name = "SPDX", value_parser = licence)]
    licence: String,
    /// What is subtracted from each channel of a pixel, 0 to 255 [default: ImageNet's 123.675,116.28,103.53]
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<Channels>,
    /// What divides the rest [default: ImageNet's 58.395,57.12,57.375]
    #[arg(long, value_name = "R,G,B", value_parser = deviation)]
    deviation: Option<Channels>,
    /// Side in pixels that it sees, where it takes any [default: 224]
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<u32>,
    /// The output that is taken as features, where it has several: [N, features] or [N, features, height, width]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Print its manifest as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Channels([f32; 3]);

fn channels(text: &str) -> Result<Channels, String> {
    let values: Result<Vec<f32>, _> = text.split(',').map(|value| value.trim().parse()).collect();
    let values = values.ok().and_then(|values| <[f32; 3]>::try_from(values).ok());
    let finite = values.filter(|values| values.iter().all(|value| value.is_finite()));
    finite.map(Channels).ok_or_else(|| "expected a number for each channel, such as 127.5,127.5,127.5".to_owned())
}

fn deviation(text: &str) -> Result<Channels, String> {
    let read = channels(text)?;
    if read.0.iter().all(|value| *value > 0.0) { Ok(read) } else { Err("expected numbers above 0".to_owned()) }
}

fn licence(text: &str) -> Result<String, String> {
    let is_spdx = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+' | ' ' | '(' | ')');
    if !text.trim().is_empty() && text.chars().all(is_spdx) {
        return Ok(text.trim().to_owned());
    }
    Err("expected an SPDX identifier such as Apache-2.0, or LicenseRef- and a name of your own".to_owned())
}

/// Runs one of them.
pub fn run(command: Command, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    match command {
        Command::Add(options) => add(*options, volumes, out),
        Command::List { json } => list(existing(volumes)?, json, out),
        Command::Remove { name } => {
            if is_built_in(&name) {
                bail!("{name} comes with the house; only backbones that were added can be removed");
            }
            existing(volumes)?.remove_backbone(&name)?;
            Ok(writeln!(out, "removed {name}; models that were made with it stay")?)
        }
    }
}

fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|known| known.name == name)
}

fn add(options: Add, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    store::check_name("name", &options.name)?;
    ensure!(!is_built_in(&options.name), "{} is the name of a backbone of the house; choose another one", options.name);
    let onnx = fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let Interface { input, output, input_size, n_features } =
        inspect(&onnx, options.input_size, options.output.as_deref())
            .with_context(|| format!("{} was not added", options.file.display()))?;
    let draft = BackboneManifest {
        schema: SCHEMA,
        name: options.name,
        licence: options.licence,
        sha256: store::digest_file(&options.file)?.sha256,
        input,
        output,
        input_size,
        n_features,
        mean: options.mean.map_or(IMAGENET_MEAN, |mean| mean.0),
        deviation: options.deviation.map_or(IMAGENET_DEVIATION, |deviation| deviation.0),
        created: store::now_rfc3339(),
    };
    let BackboneManifest { name, licence, sha256, .. } = &draft;
    if options.json {
        let added = volumes.add_backbone(draft, &options.file)?;
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&added.manifest)?)?);
    }
    let told = format!(
        "{name}  {n_features} features of {input_size} × {input_size} pixels, {licence}, SHA-256 {sha256}\n\
         train on it: fovea train --dataset latest --family linear --backbone {name}"
    );
    volumes.add_backbone(draft.clone(), &options.file)?;
    Ok(writeln!(out, "{told}")?)
}

/// A backbone that a run can ask for.
#[derive(Serialize)]
struct Listed {
    name: String,
    built_in: bool,
    licence: String,
    sha256: String,
    /// All about one's own; null for those of the house.
    manifest: Option<BackboneManifest>,
}

fn list(volumes: &Volumes, json: bool, out: &mut impl Write) -> Result<()> {
    let built_in = installed::built_in().into_iter().map(|known| Listed {
        name: known.name.into(),
        built_in: true,
        licence: known.licence.into(),
        sha256: known.sha256.into(),
        manifest: None,
    });
    let own = volumes.backbones()?.into_iter().map(|own| Listed {
        name: own.manifest.name.clone(),
        built_in: false,
        licence: own.manifest.licence.clone(),
        sha256: own.manifest.sha256.clone(),
        manifest: Some(own.manifest),
    });
    let all: Vec<_> = built_in.chain(own).collect();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    if all.is_empty() {
        return Ok(writeln!(out, "no backbones; `cargo xtask setup` installs those of the house")?);
    }
    let numbers = ["PIXELS", "FEATURES"].map(|heading| (heading, Side::Right));
    let words = ["LICENCE", "FROM"].map(|heading| (heading, Side::Left));
    let mut table = Table::new([("NAME", Side::Left)].into_iter().chain(numbers).chain(words));
    for Listed { name, built_in, licence, manifest, .. } in all {
        let of_own = |value: fn(&BackboneManifest) -> u32| manifest.as_ref().map(|m| value(m).to_string());
        let unknown = || "-".to_owned();
        let (size, features) = (of_own(|m| m.input_size), of_own(|m| m.n_features));
        let from = if built_in { "the house" } else { "you" };
        table.row([name, size.unwrap_or_else(unknown), features.unwrap_or_else(unknown), licence, from.into()]);
    }
    Ok(table.print(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_finite_numbers_are_channels() {
        assert_eq!(channels("1, 2.5,-3"), Ok(Channels([1.0, 2.5, -3.0])));
        for wrong in ["", "1,2", "1,2,3,4", "1,2,inf", "a,b,c"] {
            assert!(channels(wrong).is_err(), "{wrong:?}");
        }
        assert!(deviation("1,0,1").is_err());
    }

    #[test]
    fn a_licence_is_stated_and_is_one_line() {
        assert_eq!(licence(" MIT OR Apache-2.0 "), Ok("MIT OR Apache-2.0".to_owned()));
        for wrong in ["", " ", "MIT\n", "<b>"] {
            assert!(licence(wrong).is_err(), "{wrong:?}");
        }
    }
}
