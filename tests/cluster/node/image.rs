//! Images without a registry: archives of layers, as `docker save` writes them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

/// Files of an image: where they are in it, their content, and whether they are programs.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    files: BTreeMap<String, (Vec<u8>, bool)>,
}

impl Layer {
    pub fn with_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Layer {
        self.files.insert(path.trim_start_matches('/').to_owned(), (content.into(), false));
        self
    }

    /// A program of this machine, with the libraries that it is linked with.
    pub fn with_program(mut self, path: &str, program: &Path) -> io::Result<Layer> {
        self.files.insert(path.trim_start_matches('/').to_owned(), (fs::read(program)?, true));
        for library in libraries(program)? {
            let content = fs::read(&library)?;
            self.files.insert(library.display().to_string().trim_start_matches('/').to_owned(), (content, true));
        }
        Ok(self)
    }

    /// The layer as it lies in an archive.
    pub fn pack(&self) -> Packed {
        let mut archive = Vec::new();
        for (path, (content, program)) in &self.files {
            let written = entry(&mut archive, path, content, if *program { 0o755 } else { 0o644 });
            written.expect("memory takes everything");
        }
        archive.resize(archive.len() + 1024, 0);
        Packed { digest: sha256(&archive), archive }
    }
}

/// A layer that several images may share.
#[derive(Debug)]
pub struct Packed {
    archive: Vec<u8>,
    digest: String,
}

/// The libraries that the loader finds for a program, and the loader itself.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let paths = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// Writes an image archive under this name (`registry/name:tag`), which starts with these words.
pub fn write(place: &Path, name: &str, layers: &[&Packed], entrypoint: &[&str]) -> io::Result<()> {
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "WorkingDir": "/"},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect::<Vec<_>>(),
        },
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", sha256(&config));
    let names: Vec<_> = layers.iter().map(|layer| format!("{}.tar", layer.digest)).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
    let mut file = fs::File::create(place)?;
    entry(&mut file, &config_name, &config, 0o644)?;
    for (name, layer) in names.iter().zip(layers) {
        entry(&mut file, name, &layer.archive, 0o644)?;
    }
    entry(&mut file, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
    file.write_all(&[0; 1024])
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One regular file in the form of POSIX.1-1988.
fn entry(archive: &mut impl Write, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(path.len() < 100, "{path} is too long for this form");
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0{0:07o}\0{0:07o}\0{1:011o}\0{0:011o}\0", 0, content.len()).as_bytes());
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.write_all(&header)?;
    archive.write_all(content)?;
    archive.write_all(&[0; 512][..content.len().next_multiple_of(512) - content.len()])
}
