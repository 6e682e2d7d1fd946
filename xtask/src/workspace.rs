//! The checkout, its target folder, and the cargo commands that fill it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    setup::Setup,
    tools::{self, Tools},
};

/// What the functions are compiled for.
pub const WASM_TARGET: &str = "wasm32-wasip2";

/// Why a cargo command could not even start.
pub const NO_CARGO: &str = "cannot start cargo; install Rust with rustup and run this again";

const FUNCTIONS: [&str; 2] = ["preprocess", "inference"];

/// The profile of what lies in images, which is also the name of its folder.
const IMAGE_PROFILE: &str = "image";

/// A checkout of Fovea.
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cargo: PathBuf,
}

impl Workspace {
    /// The checkout that this xtask belongs to, and the target folder that it was built into.
    pub fn locate() -> Result<Self> {
        // Cargo says where the package lies now; a shared target folder may hold an xtask built from elsewhere.
        let package =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = package.parent().context("the xtask package lies in no workspace")?.to_owned();
        let program = env::current_exe().context("cannot tell where xtask lies")?;
        let target = program.ancestors().nth(2).context("xtask lies in no target folder")?.to_owned();
        let cargo = env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        Ok(Self { root, target, cargo })
    }

    /// A checkout under `root` whose target folder is `root/target`, and a program that stands in for cargo.
    #[cfg(test)]
    pub fn pretend(root: PathBuf, cargo: PathBuf) -> Self {
        Self { target: root.join("target"), root, cargo }
    }

    /// The same with another target folder.
    #[cfg(test)]
    pub fn with_target(self, target: PathBuf) -> Self {
        Self { target, ..self }
    }

    /// Where native programs are built.
    pub fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Where the functions' components are built.
    pub fn components(&self) -> PathBuf {
        self.target.join(WASM_TARGET).join("release")
    }

    /// Where the programs of images are built.
    pub fn image_programs(&self) -> PathBuf {
        self.target.join(IMAGE_PROFILE)
    }

    /// Where images are put together.
    pub fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    /// What an image is built by.
    pub fn containerfile(&self, name: &str) -> PathBuf {
        self.root.join("knative/images").join(name)
    }

    /// The house's licence.
    pub fn license(&self) -> PathBuf {
        self.root.join("LICENSE")
    }

    /// A cargo command on this checkout.
    pub fn cargo<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<()> {
        let mut command = self.cargo(arguments);
        let status = command.status().context(NO_CARGO)?;
        ensure!(status.success(), "{} failed; the reason stands above", shown(&command));
        Ok(())
    }

    /// Builds every program and every test, in the one way that `cargo test` takes up again. A narrower selection would
    /// resolve other features and build the engines a second time.
    pub fn build_everything_native(&self) -> Result<()> {
        self.run(["build", "--release", "--workspace", "--all-targets"])
    }

    /// Builds the programs of images.
    pub fn build_image_programs(&self) -> Result<()> {
        let packages = packages(&["runtime", "web", "trainer"]);
        self.run(["build", "--profile", IMAGE_PROFILE, "--bins"].into_iter().chain(packages))
    }

    /// Builds the functions' components.
    pub fn build_components(&self) -> Result<()> {
        self.run(["build", "--release", "--target", WASM_TARGET].into_iter().chain(packages(&FUNCTIONS)))
    }

    /// Builds the functions' components, and those that only tests run.
    pub fn build_components_and_guests(&self) -> Result<()> {
        let guests = self.guests()?;
        let guests: Vec<&str> = guests.iter().map(String::as_str).collect();
        let arguments = ["build", "--release", "--target", WASM_TARGET].into_iter().chain(packages(&FUNCTIONS));
        self.run(arguments.chain(packages(&guests)))
    }

    /// Packages in `tests/guests`: folder `x` holds `guest-x`.
    fn guests(&self) -> Result<Vec<String>> {
        let folder = self.root.join("tests/guests");
        let cannot = || format!("cannot read {}", folder.display());
        let entries =
            fs::read_dir(&folder).with_context(cannot)?.collect::<Result<Vec<_>, _>>().with_context(cannot)?;
        let packages = entries.iter().filter(|entry| entry.path().join("Cargo.toml").is_file());
        Ok(packages.map(|entry| format!("guest-{}", entry.file_name().to_string_lossy())).collect())
    }

    /// Becomes `fovea up`; returns only if that fails.
    pub fn become_fovea_up(&self, setup: &Setup, arguments: &[OsString]) -> anyhow::Error {
        let program = self.release().join("fovea");
        let mut command = Command::new(&program);
        command.arg("up").args(arguments).envs(setup.environment()).env("FOVEA_COMPONENTS", self.components());
        anyhow!(command.exec()).context(format!("cannot start {}", program.display()))
    }

    /// Becomes `fovea-bench`; returns only if that fails.
    pub fn become_fovea_bench(&self, arguments: &[OsString]) -> anyhow::Error {
        let program = self.release().join("fovea-bench");
        let mut command = Command::new(&program);
        command.args(arguments).env("FOVEA_COMPONENTS", self.components());
        anyhow!(command.exec()).context(format!("cannot start {}", program.display()))
    }

    /// Builds the program that verifies a cluster, and nothing else: whoever runs it may have no use for the engines.
    pub fn build_verifier(&self) -> Result<()> {
        self.run(["build", "--release"].into_iter().chain(packages(&["verify"])))
    }

    /// Becomes `fovea-verify-cluster`; returns only if that fails.
    pub fn become_verifier(&self, arguments: &[OsString]) -> anyhow::Error {
        let program = self.release().join("fovea-verify-cluster");
        let mut command = Command::new(&program);
        // Whichever checkout the program was built from, these are the manifests that are verified.
        command.arg("--manifests").arg(self.root.join("knative/base")).args(arguments);
        anyhow!(command.exec()).context(format!("cannot start {}", program.display()))
    }

    /// Whether rustfmt would change nothing; says so where rustfmt is not there to ask.
    pub fn is_formatted(&self, tools: &Tools) -> Result<bool> {
        if tools.find("cargo-fmt").is_none() {
            eprintln!("note: formatting was not checked, for rustfmt is missing (rustup component add rustfmt)");
            return Ok(true);
        }
        let said = tools::output(self.cargo(["fmt", "--all", "--check"]).stdin(Stdio::null()))?;
        if said.status.success() {
            return Ok(true);
        }
        let complaint = tools::complaint(&said);
        if complaint.contains("is not installed") {
            eprintln!("note: formatting was not checked, for rustfmt is missing (rustup component add rustfmt)");
            return Ok(true);
        }
        eprint!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        Ok(false)
    }

    /// Checks formatting, then lets clippy judge native code and functions.
    pub fn lint(&self) -> Result<()> {
        self.run(["fmt", "--all", "--check"])?;
        self.run(["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
        let guests = self.guests()?;
        let guests: Vec<&str> = guests.iter().map(String::as_str).collect();
        let components = ["clippy", "--release", "--target", WASM_TARGET].into_iter().chain(packages(&FUNCTIONS));
        self.run(components.chain(packages(&guests)).chain(["--", "--deny", "warnings"]))
    }

    /// Asks the web service for its description and writes it down where it changed.
    pub fn write_openapi(&self) -> Result<()> {
        self.run(["build", "--release"].into_iter().chain(packages(&["web"])))?;
        let said = tools::output(Command::new(self.release().join("fovea-web")).arg("openapi"))?;
        ensure!(said.status.success(), "fovea-web openapi failed ({})", tools::complaint(&said));
        let path = self.root.join("docs/openapi.json");
        if fs::read(&path).is_ok_and(|present| present == said.stdout) {
            return Ok(());
        }
        let aside = path.with_extension("json.new");
        fs::write(&aside, said.stdout)
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Waits until no other test run uses the target folder, and keeps others waiting until dropped.
    pub fn hold_target_folder(&self) -> Result<File> {
        let path = self.target.join(".fovea-test.lock");
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(fs::TryLockError::WouldBlock) => eprintln!("waiting for another test run in {}", self.target.display()),
            Err(fs::TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
        }
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(lock)
    }
}

fn packages<'a>(names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    names.iter().flat_map(|name| ["--package", *name])
}

fn shown(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    format!("cargo {}", arguments.join(" "))
}
