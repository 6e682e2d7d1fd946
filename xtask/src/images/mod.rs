//! `cargo xtask images`: the programs as container images.
//!
//! They are compiled for size, in a profile of their own. A folder is filled with a program, the few libraries that it is
//! linked with and its data, and becomes the root of an image that has nothing else; building that needs no network.
//! Pushing and loading images is left to whoever runs a cluster.

mod builder;
mod size;
mod stage;

#[cfg(test)]
mod tests;

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{backbones, cache, setup::Setup, tools::Tools, workspace::Workspace};
use builder::{Builder, Program};
use size::Size;
use stage::Root;

/// What can be said about the images.
#[derive(Args)]
pub struct Options {
    /// Which program builds them [default: the first that works]
    #[arg(long, value_enum)]
    builder: Option<Program>,

    /// What the images' names begin with, such as registry.example.com or dev.local
    #[arg(long, value_name = "PREFIX")]
    registry: Option<String>,

    /// Take the programs that the target folder holds as they are, instead of building them first
    #[arg(long)]
    prebuilt: bool,
}

/// An image.
struct Image {
    /// Its name without registry and tag.
    name: &'static str,
    /// What it is, for people.
    description: &'static str,
    /// Its Containerfile in `knative/images`.
    containerfile: &'static str,
}

const IMAGES: [Image; 4] = [
    Image {
        name: "preprocess",
        description: "Pictures in any format to upright RGB",
        containerfile: "function.Containerfile",
    },
    Image { name: "inference", description: "Pictures to labels", containerfile: "function.Containerfile" },
    Image { name: "web", description: "Uploads, pages and REST of Fovea", containerfile: "web.Containerfile" },
    Image {
        name: "trainer",
        description: "Trains an image classifier and publishes it",
        containerfile: "trainer.Containerfile",
    },
];

/// The workspace's version, and every image's tag.
const TAG: &str = env!("CARGO_PKG_VERSION");

impl Image {
    /// Its whole name.
    fn reference(&self, registry: Option<&str>) -> String {
        let prefix = registry.map(|registry| format!("{}/", registry.trim_end_matches('/'))).unwrap_or_default();
        format!("{prefix}fovea/{}:{TAG}", self.name)
    }

    fn labels(&self) -> [(&'static str, &str); 3] {
        [
            ("org.opencontainers.image.title", self.name),
            ("org.opencontainers.image.description", self.description),
            ("org.opencontainers.image.version", TAG),
        ]
    }
}

/// Builds all images and prints what they weigh.
pub fn run(workspace: &Workspace, tools: &Tools, options: &Options, out: &mut impl Write) -> Result<()> {
    // Before anything that takes minutes.
    let builder = Builder::find(tools, options.builder)?;
    let setup = Setup::run(tools, &cache::folder()?)?;
    if !options.prebuilt {
        workspace.build_components()?;
        workspace.build_image_programs()?;
    }
    let mut table = Vec::new();
    for image in &IMAGES {
        let context = workspace.images().join(image.name);
        let size = stage(image, &context, &workspace.image_programs(), workspace, &setup, tools)?;
        let reference = image.reference(options.registry.as_deref());
        eprintln!("images: building {reference} with {}", builder.name());
        builder.build(&reference, &workspace.containerfile(image.containerfile), &image.labels(), &context)?;
        table.push((reference, size));
    }
    print(&table, out).context("cannot print the table of sizes")
}

/// Fills the folder that an image is built from with a program out of `programs`, and tells what it weighs.
fn stage(
    image: &Image,
    context: &Path,
    programs: &Path,
    workspace: &Workspace,
    setup: &Setup,
    tools: &Tools,
) -> Result<Size> {
    let root = Root::empty(context, tools)?;
    root.add_file(&workspace.license(), "licenses/fovea/LICENSE")?;
    match image.name {
        "web" => root.add_program(&programs.join("fovea-web"))?,
        "trainer" => {
            root.add_program(&programs.join("fovea-trainer"))?;
            root.add_program(setup.onnxruntime())?;
            root.add_notices(setup.onnxruntime(), "onnxruntime")?;
            for ((name, _), weights) in backbones::ALL.iter().zip(&setup.backbones().weights) {
                root.add_file(weights, &format!("backbones/{}", file_name(weights)?))?;
                root.add_notices(weights, name)?;
            }
        }
        function => {
            root.add_program(&programs.join("fovea-runtime"))?;
            let component = workspace.components().join(function).with_extension("wasm");
            ensure!(component.is_file(), "{} is missing; run this again without --prebuilt", component.display());
            root.add_gzipped(&component, "component.wasm.gz")?;
            root.add_scratch_folder("cache")?;
        }
    }
    root.add_scratch_folder("tmp")?;
    Size::of(root.path())
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no name", path.display()))
}

fn print(table: &[(String, Size)], out: &mut impl Write) -> std::io::Result<()> {
    let width = table.iter().map(|(reference, _)| reference.len()).max().unwrap_or_default();
    writeln!(out, "{:width$}  {:>12}  {:>12}", "image", "uncompressed", "compressed")?;
    for (reference, size) in table {
        writeln!(out, "{reference:width$}  {:>9.1} MB  {:>9.1} MB", megabytes(size.bytes), megabytes(size.gzip_bytes))?;
    }
    Ok(())
}

/// 10⁶ bytes, as registries count.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Removes a folder and what is in it, if it is there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot clear {}", folder.display()))
        }
        _ => Ok(()),
    }
}
