//! The programs that make images, and how each of them is told to.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::tools::{self, Tools};

/// A program that makes images of Containerfiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// Docker; needs its engine to run
    Docker,
    /// Podman
    Podman,
    /// Buildah
    Buildah,
}

impl Program {
    const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Buildah];

    fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// Asks for something that only works where images can be built.
    fn check(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["version", "--format", "{{.Server.Version}}"],
            Self::Podman | Self::Buildah => &["images", "--quiet"],
        }
    }

    /// Nothing is fetched and nothing of this machine's clock gets into an image.
    fn build(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["build", "--quiet", "--network", "none"],
            Self::Podman => &["build", "--quiet", "--network", "none", "--timestamp", "0"],
            Self::Buildah => &["build-using-dockerfile", "--quiet", "--network", "none", "--timestamp", "0"],
        }
    }
}

/// A program that works on this machine.
pub struct Builder<'a> {
    program: Program,
    tools: &'a Tools,
}

impl<'a> Builder<'a> {
    /// The program that was chosen, or else the first that works.
    pub fn find(tools: &'a Tools, chosen: Option<Program>) -> Result<Self> {
        let candidates = chosen.map_or_else(|| Program::ALL.to_vec(), |program| vec![program]);
        let mut troubles = Vec::new();
        for program in candidates {
            match Self::try_one(tools, program) {
                Ok(builder) => return Ok(builder),
                Err(trouble) => troubles.push(format!("{trouble:#}")),
            }
        }
        bail!("no program here can build images: {}", troubles.join("; "));
    }

    fn try_one(tools: &'a Tools, program: Program) -> Result<Self> {
        let name = program.name();
        let mut command = tools.command(name, &format!("{name} is not installed"))?;
        let said = tools::output(command.args(program.check()))?;
        let remedy = if program == Program::Docker { "is its engine running?" } else { "does it work by itself?" };
        ensure!(said.status.success(), "{name} does not work ({}); {remedy}", tools::complaint(&said));
        Ok(Self { program, tools })
    }

    /// The program's name.
    pub fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Builds one image of the folder `context`.
    pub fn build(&self, tag: &str, containerfile: &Path, labels: &[(&str, &str)], context: &Path) -> Result<()> {
        let name = self.name();
        let mut command = self.tools.command(name, &format!("{name} is gone"))?;
        command.args(self.program.build()).args(["--tag", tag]).arg("--file").arg(containerfile);
        for (label, value) in labels {
            command.args(["--label", &format!("{label}={value}")]);
        }
        // Docker would else add to each image when and how it was built.
        command.arg(context).env("SOURCE_DATE_EPOCH", "0").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        let said = tools::output(&mut command)?;
        ensure!(said.status.success(), "{name} could not build {tag}: {}", tools::complaint(&said));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    #[test]
    fn the_first_program_that_works_is_taken() {
        let fake = FakeTools::new(&[("docker", "echo 'Cannot connect to the engine' >&2; exit 1"), ("buildah", "")]);
        assert_eq!(Builder::find(&fake.tools(), None).map(|builder| builder.name()).ok(), Some("buildah"));
    }

    #[test]
    fn where_none_works_each_says_why() {
        let fake = FakeTools::new(&[("docker", "echo 'Cannot connect to the engine' >&2; exit 1")]);
        let error = Builder::find(&fake.tools(), None).err().expect("none works").to_string();
        assert_eq!(
            error,
            "no program here can build images: docker does not work (Cannot connect to the engine); is its engine \
             running?; podman is not installed; buildah is not installed"
        );
        let error = Builder::find(&fake.tools(), Some(Program::Podman)).err().expect("it is not there").to_string();
        assert_eq!(error, "no program here can build images: podman is not installed");
    }

    #[test]
    fn an_image_is_built_without_a_network() {
        let said = tempfile::NamedTempFile::new().expect("a temporary file");
        let script = format!("echo \"$*\" >> {}", said.path().display());
        let fake = FakeTools::new(&[("podman", &script)]);
        let tools = fake.tools();
        let builder = Builder::find(&tools, None).expect("it works");
        let labels = [("org.opencontainers.image.title", "web")];
        builder.build("fovea/web:1", Path::new("/f"), &labels, Path::new("/context")).expect("it says it worked");
        let said = std::fs::read_to_string(said.path()).expect("a file");
        assert_eq!(
            said.lines().nth(1),
            Some(
                "build --quiet --network none --timestamp 0 --tag fovea/web:1 --file /f \
                 --label org.opencontainers.image.title=web /context"
            )
        );
    }
}
