//! The folder that becomes the root of an image.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::{Compression, write::GzEncoder};

use super::{file_name, remove};
use crate::tools::{self, Tools};

/// A root folder that is being filled. What is in it bears no date and no owner of this machine, so that the same
/// programs make the same image.
pub struct Root<'a> {
    path: PathBuf,
    tools: &'a Tools,
}

impl<'a> Root<'a> {
    /// An empty root in the folder `context`, in place of what was there.
    pub fn empty(context: &Path, tools: &'a Tools) -> Result<Self> {
        remove(context)?;
        let path = context.join("root");
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, tools })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a program or library at the top, and what it is linked with where the loader looks for it.
    pub fn add_program(&self, program: &Path) -> Result<()> {
        ensure!(program.is_file(), "{} is missing; run this again without --prebuilt", program.display());
        self.add(program, Path::new(file_name(program)?), 0o755)?;
        for library in self.libraries(program)? {
            let inside = library.strip_prefix("/").map_err(|_| anyhow!("{} is no whole path", library.display()))?;
            self.add(&library, inside, 0o755)?;
        }
        Ok(())
    }

    /// Adds a file that is only read.
    pub fn add_file(&self, file: &Path, inside: &str) -> Result<()> {
        self.add(file, Path::new(inside), 0o644)
    }

    /// Adds a file that is only read, gzipped.
    pub fn add_gzipped(&self, file: &Path, inside: &str) -> Result<()> {
        let packed = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        let pack = || -> std::io::Result<()> {
            let mut packer = GzEncoder::new(packed.as_file(), Compression::best());
            std::io::copy(&mut File::open(file)?, &mut packer)?;
            packer.finish()?;
            Ok(())
        };
        pack().with_context(|| format!("cannot gzip {}", file.display()))?;
        self.add(packed.path(), Path::new(inside), 0o644)
    }

    /// Adds the licences and notices that lie beside a file under `licenses/<name>`.
    pub fn add_notices(&self, beside: &Path, name: &str) -> Result<()> {
        let folder = beside.parent().with_context(|| format!("{} lies in no folder", beside.display()))?;
        let read = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(read)? {
            let path = entry.with_context(read)?.path();
            let file = file_name(&path)?;
            if ["LICENSE", "METADATA", "ThirdPartyNotices.txt"].contains(&file) {
                self.add_file(&path, &format!("licenses/{name}/{file}"))?;
            }
        }
        Ok(())
    }

    /// Adds an empty folder that anybody may write to where the root is not read-only, and where a volume is mounted
    /// where it is.
    pub fn add_scratch_folder(&self, name: &str) -> Result<()> {
        let folder = self.path.join(name);
        fs::create_dir(&folder)
            .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o1777)))
            .with_context(|| format!("cannot make {}", folder.display()))
    }

    fn add(&self, file: &Path, inside: &Path, mode: u32) -> Result<()> {
        let path = self.path.join(inside);
        let copy = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            // What a link leads to, under the link's name.
            fs::copy(file, &path)?;
            File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))
        };
        copy().with_context(|| format!("cannot copy {} to {}", file.display(), path.display()))
    }

    /// The libraries of a program, and the loader.
    fn libraries(&self, program: &Path) -> Result<Vec<PathBuf>> {
        let missing = "ldd is not in PATH; it comes with the C library (glibc), which these images are made of";
        let said = tools::output(self.tools.command("ldd", missing)?.arg(program))?;
        ensure!(said.status.success(), "ldd cannot read {} ({})", program.display(), tools::complaint(&said));
        parse_ldd(&String::from_utf8_lossy(&said.stdout)).with_context(|| format!("{} cannot run", program.display()))
    }
}

/// Reads lines such as `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x7f…)` and `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("its library {} is not on this machine", line.split(' ').next().unwrap_or(line));
        }
        let (path, _address) = line.rsplit_once(" (").unwrap_or((line, ""));
        let path = path.rsplit_once("=> ").map_or(path, |(_, path)| path);
        // What the kernel provides has a name and no path.
        if path.starts_with('/') {
            libraries.push(path.into());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    #[test]
    fn libraries_are_found_where_the_loader_finds_them() {
        let said = "\tlinux-vdso.so.1 (0x00007f8117fce000)\n\
                    \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f8115d20000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f8117fd0000)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(said).expect("it is readable"), expected);
        assert!(parse_ldd("\tstatically linked\n").expect("it is readable").is_empty());
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = parse_ldd("\tlibx.so.1 => not found\n").expect_err("it is missing");
        assert_eq!(error.to_string(), "its library libx.so.1 is not on this machine");
    }

    #[test]
    fn a_root_holds_a_program_its_libraries_and_nothing_of_an_earlier_one() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| place.path().join(name);
        fs::write(at("program"), "p").expect("a file");
        fs::write(at("libx.so.1.2"), "x").expect("a file");
        std::os::unix::fs::symlink("libx.so.1.2", at("libx.so.1")).expect("a link");
        let fake = FakeTools::new(&[("ldd", &format!("echo 'libx.so.1 => {} (0x1)'", at("libx.so.1").display()))]);
        let tools = fake.tools();
        let context = at("context");
        fs::create_dir_all(context.join("root/old")).expect("a folder");

        let root = Root::empty(&context, &tools).expect("it can be made");
        root.add_program(&at("program")).expect("all is there");
        let inside = |path: &str| root.path().join(path.trim_start_matches('/'));
        assert!(!inside("old").exists());
        assert_eq!(fs::read_to_string(inside("program")).expect("a file"), "p");
        let library = inside(at("libx.so.1").to_str().expect("text"));
        assert!(library.symlink_metadata().expect("it is there").is_file(), "a link would lead nowhere");
        assert_eq!(library.metadata().and_then(|m| m.modified()).expect("a date"), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_program_that_was_not_built_is_named() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let tools = Tools::in_path("/nowhere");
        let root = Root::empty(&place.path().join("context"), &tools).expect("it can be made");
        let error = root.add_program(Path::new("/nowhere/fovea-web")).expect_err("it is missing").to_string();
        assert_eq!(error, "/nowhere/fovea-web is missing; run this again without --prebuilt");
    }
}
