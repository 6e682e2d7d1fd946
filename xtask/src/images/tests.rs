//! The images themselves, where there is a `buildah` to build them: each is built, and what it runs is run in its root.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;
use crate::tools::fake::FakeTools;

/// Largest images, in bytes: as they lie on a node's disk with programs compiled for images, and compressed, as a node
/// fetches them, with any programs.
const LIMITS: [(&str, u64, u64); 4] = [
    ("preprocess", 30_000_000, 30_000_000),
    ("inference", 30_000_000, 30_000_000),
    ("web", 25_000_000, 25_000_000),
    ("trainer", 105_000_000, 65_000_000),
];

/// A `buildah` whose images lie in a folder of the test's own.
struct Bench {
    folder: tempfile::TempDir,
    fake: FakeTools,
}

impl Bench {
    /// Where there is no `buildah`, or none that works, there is no bench.
    fn new() -> Option<Self> {
        let real = Tools::from_env();
        let (buildah, ldd) = (real.find("buildah")?, real.find("ldd")?);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().display();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/graph\"\nrootless_storage_path = \"{place}/graph\"\n\
             runroot = \"{place}/run\"\n"
        );
        fs::write(folder.path().join("storage.conf"), storage).expect("a file");
        let path = env::var("PATH").expect("a search path");
        let with_own_storage = format!(
            "export PATH='{path}' CONTAINERS_STORAGE_CONF='{place}/storage.conf' BUILDAH_ISOLATION=chroot\n\
             exec '{}' \"$@\"",
            buildah.display()
        );
        let ldd = format!("PATH='{path}' exec '{}' \"$@\"", ldd.display());
        let fake = FakeTools::new(&[("buildah", &with_own_storage), ("ldd", &ldd)]);
        Builder::find(&fake.tools(), Some(Program::Buildah)).ok()?;
        let bench = Self { folder, fake };
        let may_mount = bench.shell("mount -t proc proc /proc", &[]).output().ok()?.status.success();
        may_mount.then_some(bench)
    }

    /// Runs what the image runs, with further arguments, as the image's user in the image's root.
    fn run(&self, image: &str, arguments: &[&str]) -> Command {
        // Not exec: the shell ends with us, and what it started with it; a process that changed its user would not.
        self.in_root(image, "env -i PORT=0 $env chroot --userspec=\"$user\" . $entrypoint \"$@\"; exit", arguments)
    }

    /// Runs a line of shell in a container's root, of which it knows `$env`, `$user` and `$entrypoint`.
    fn in_root(&self, image: &str, line: &str, arguments: &[&str]) -> Command {
        let script = format!(
            "container=$(buildah from --pull-never \"$1\"); shift\n\
             tell() {{ buildah inspect --format \"{{{{$1}}}}\" \"$container\"; }}\n\
             env=$(tell 'range .OCIv1.Config.Env}}}}{{{{.}}}} {{{{end')\n\
             user=$(tell '.OCIv1.Config.User')\n\
             entrypoint=$(tell 'range .OCIv1.Config.Entrypoint}}}}{{{{.}}}} {{{{end')\n\
             cd \"$(buildah mount \"$container\")\"\n\
             mkdir -p proc; mount -t proc proc proc\n\
             {line}"
        );
        self.shell(&script, &[&[image], arguments].concat())
    }

    /// A shell that may mount, with processes of its own that end when it does.
    fn shell(&self, script: &str, arguments: &[&str]) -> Command {
        let is_root = fs::metadata("/proc/self").expect("/proc is there").uid() == 0;
        let mut command = match is_root {
            true => Command::new("unshare"),
            false => Command::new(self.fake.path().join("buildah")),
        };
        if !is_root {
            command.args(["unshare", "unshare"]);
        }
        let path = format!("{}:{}", self.fake.path().display(), env::var("PATH").expect("a search path"));
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script, "sh"]);
        command.args(arguments).env("PATH", path);
        command
    }

    fn said_in_root(&self, image: &str, command: &mut Command) -> String {
        let said = command.output().expect("a shell starts");
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success(), "{image}: {out}{err}");
        out.into_owned()
    }
}

/// What can be put into images, if it was built.
struct Built {
    workspace: Workspace,
    setup: Setup,
    /// Folder of the programs: those compiled for images where they are, else those of release mode.
    programs: PathBuf,
}

fn built() -> Option<Built> {
    let this = env::current_exe().expect("a test knows its path");
    let target = this.ancestors().nth(3).expect("a test lies in target/<profile>/deps");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let workspace = Workspace::pretend(root.to_owned(), "cargo".into()).with_target(target.to_owned());
    let all_in = |folder: &Path, names: &[&str]| names.iter().all(|name| folder.join(name).is_file());
    let programs = ["fovea-runtime", "fovea-web", "fovea-trainer"];
    let programs = [workspace.image_programs(), workspace.release()].into_iter().find(|it| all_in(it, &programs))?;
    let setup = Setup::installed(&cache::folder().ok()?)?;
    let is_whole = all_in(&workspace.components(), &["preprocess.wasm", "inference.wasm"]);
    is_whole.then_some(Built { workspace, setup, programs })
}

#[test]
fn each_image_runs_in_a_root_of_its_own() {
    let Some(Built { workspace, setup, programs }) = built() else {
        println!("skipped: no image was built; `cargo xtask test` builds what is in them");
        return;
    };
    let Some(bench) = Bench::new() else {
        println!("skipped: no image was built; there is no buildah that works");
        return;
    };
    let tools = bench.fake.tools();
    let builder = Builder::find(&tools, Some(Program::Buildah)).expect("it worked before");
    for (image, (name, most_bytes, most_gzip_bytes)) in IMAGES.iter().zip(LIMITS) {
        assert_eq!(image.name, name);
        let context = bench.folder.path().join(name);
        let size = stage(image, &context, &programs, &workspace, &setup, &tools).expect("all is there");
        assert!(size.gzip_bytes <= most_gzip_bytes, "{name} has grown to {size:?}");
        assert!(programs == workspace.release() || size.bytes <= most_bytes, "{name} has grown to {size:?}");
        let reference = image.reference(Some("test.local"));
        builder
            .build(&reference, &workspace.containerfile(image.containerfile), &image.labels(), &context)
            .expect("it can be built");

        let said = bench.said_in_root(&reference, &mut bench.run(&reference, &["--version"]));
        assert!(said.trim_end().ends_with(TAG), "{said}");
    }

    let preprocess = IMAGES[0].reference(Some("test.local"));
    let mut function = bench.run(&preprocess, &["serve"]).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut line = String::new();
    BufReader::new(function.stdout.take().expect("it is piped")).read_line(&mut line).expect("it can be read");
    function.kill().expect("it runs");
    function.wait().expect("it ended");
    assert!(line.starts_with("ready: function at http://0.0.0.0:"), "{line:?}");

    // The trainer loads this one when it has a run, not when it starts.
    let trainer = IMAGES[3].reference(Some("test.local"));
    let list = "for loader in lib*/ld-linux-*; do exec chroot . \"/$loader\" --list /libonnxruntime.so; done";
    let said = bench.said_in_root(&trainer, &mut bench.in_root(&trainer, list, &[]));
    assert!(said.contains("libstdc++.so.6 => ") && !said.contains("not found"), "{said}");
}
