//! Container images from nothing: one static program, one layer, one archive.
//!
//! The archive is an OCI image layout in a tar file, as `ctr images import` and `docker load` take it. It is the same, byte for
//! byte, whenever the program is the same.
//!
//! Source: OCI image-spec 1.1, "Image Layout", "Image Manifest", "Image Configuration", "Layer Filesystem Changeset"; for tar,
//! POSIX.1-2017, pax, "ustar Interchange Format".

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::command;
use crate::error::{During, Error, Result};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Units: bytes.
const BLOCK: usize = 512;

/// An image to be.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// `weir.io/weir-controller:0.1.0`.
    pub name: &'a str,
    /// The program: a static ELF file.
    pub program: &'a Path,
    /// User and group it runs as.
    pub user: u32,
    /// Labels beside the title, which is the name of the program, and the version, which is the tag.
    pub labels: &'a [(String, String)],
}

/// Writes the archive of an image.
///
/// Errors: [`Error::Content`] for a program that is not a static ELF file of a known machine, or a name without a tag.
pub fn write(image: &Image<'_>, archive: &Path) -> Result<()> {
    let program =
        fs::read(image.program).during(|| format!("reading {}", image.program.display()))?;
    let wrong = |reason: String| Error::Content {
        file: image.program.to_owned(),
        field: "program".to_owned(),
        reason,
    };
    let architecture = architecture(&program).map_err(|reason| wrong(reason.to_owned()))?;
    let file = image.program.file_name().map(|n| n.to_string_lossy().into_owned());
    let file = file.ok_or_else(|| wrong("has no name".to_owned()))?;
    let (_, tag) = image
        .name
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .ok_or_else(|| wrong(format!("the image name {:?} has no tag", image.name)))?;

    let mut labels: BTreeMap<&str, &str> =
        image.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.insert("org.opencontainers.image.title", &file);
    labels.insert("org.opencontainers.image.version", tag);

    let mut layer = Tar::default();
    layer.file(&file, &program, 0o755)?;
    let layer = layer.finish();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{0}:{0}", image.user),
            "Entrypoint": [format!("/{file}")],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({"architecture": architecture, "os": "linux"});
    entry["annotations"] = json!({
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});

    let mut out = Tar::default();
    out.file("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes(), 0o644)?;
    out.file("index.json", index.to_string().as_bytes(), 0o644)?;
    for blob in [&manifest, &config, &layer] {
        out.file(&blob_path(&digest(blob)), blob, 0o644)?;
    }
    if let Some(parent) = archive.parent() {
        fs::create_dir_all(parent).during(|| format!("making {}", parent.display()))?;
    }
    fs::write(archive, out.finish()).during(|| format!("writing {}", archive.display()))
}

/// An image that was read back and whose digests and sizes are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub name: String,
    /// Of the manifest: what an importer calls the image's digest.
    pub digest: String,
    /// The whole archive. Units: bytes.
    pub size: usize,
    /// `UID:GID`, in digits: there are no names in an image from nothing.
    pub user: String,
    pub entrypoint: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// What the layers put where: path, content, mode.
    pub files: BTreeMap<String, (Vec<u8>, u32)>,
}

/// Reads an archive the way an importer does: from the index along the digests, each of which is checked. What the entry point
/// names must be there, for anybody to run, and static.
///
/// Errors: [`Error::Content`] naming the blob and what is wrong with it.
pub fn read(archive: &Path) -> Result<Read> {
    let bytes = fs::read(archive).during(|| format!("reading {}", archive.display()))?;
    let wrong = |field: &str, reason: String| Error::Content {
        file: archive.to_owned(),
        field: field.to_owned(),
        reason,
    };
    let files = untar(&bytes).map_err(|reason| wrong("archive", reason))?;
    let json_of = |field: &str, bytes: &[u8]| -> Result<Value> {
        serde_json::from_slice(bytes).map_err(|e| wrong(field, e.to_string()))
    };
    let blob = |field: &str, descriptor: &Value| -> Result<Vec<u8>> {
        let text = descriptor["digest"].as_str().unwrap_or_default();
        let (content, _) = files
            .get(&blob_path(text))
            .ok_or_else(|| wrong(field, format!("blob {text:?} is not there")))?;
        let found = digest(content);
        if found != text {
            return Err(wrong(field, format!("blob {text} has the digest {found}")));
        }
        if descriptor["size"].as_u64() != Some(content.len() as u64) {
            return Err(wrong(field, format!("blob {text} has {} bytes", content.len())));
        }
        Ok(content.clone())
    };
    let (layout, _) =
        files.get("oci-layout").ok_or_else(|| wrong("oci-layout", "is not there".into()))?;
    if json_of("oci-layout", layout)?["imageLayoutVersion"] != "1.0.0" {
        return Err(wrong("oci-layout", "is of another version".into()));
    }
    let (index, _) =
        files.get("index.json").ok_or_else(|| wrong("index.json", "is not there".into()))?;
    let index = json_of("index.json", index)?;
    let entry = &index["manifests"][0];
    let manifest = json_of("manifest", &blob("manifest", entry)?)?;
    let config = json_of("config", &blob("config", &manifest["config"])?)?;
    let mut out = BTreeMap::new();
    let layers = manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let diff_ids = config["rootfs"]["diff_ids"].as_array().map_or(&[][..], Vec::as_slice);
    if layers.len() != diff_ids.len() || layers.is_empty() {
        return Err(wrong(
            "config",
            format!("{} diff_ids for {} layers", diff_ids.len(), layers.len()),
        ));
    }
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let content = blob("layer", layer)?;
        if diff_id.as_str() != Some(&digest(&content)) {
            return Err(wrong("config", "a diff_id is not that of its layer".into()));
        }
        out.extend(untar(&content).map_err(|reason| wrong("layer", reason))?);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entrypoint = config["config"]["Entrypoint"].as_array().map_or(&[][..], Vec::as_slice);
    let entrypoint: Vec<String> = entrypoint.iter().map(text).collect();
    let program = entrypoint.first().map(|p| p.trim_start_matches('/')).unwrap_or_default();
    let (content, mode) = out
        .get(program)
        .ok_or_else(|| wrong("Entrypoint", format!("{program:?} is in no layer")))?;
    if mode & 0o111 != 0o111 {
        return Err(wrong("Entrypoint", format!("{program} has the mode {mode:o}")));
    }
    let machine = architecture(content).map_err(|e| wrong("Entrypoint", e.to_owned()))?;
    if config["architecture"] != machine {
        return Err(wrong("architecture", format!("{program} is for {machine}")));
    }
    let user = text(&config["config"]["User"]);
    if !user.split(':').all(|id| id.parse::<u32>().is_ok()) {
        return Err(wrong("User", format!("{user:?} is no pair of numbers")));
    }
    let labels = config["config"]["Labels"].as_object();
    Ok(Read {
        name: text(&entry["annotations"]["io.containerd.image.name"]),
        digest: text(&entry["digest"]),
        size: bytes.len(),
        user,
        entrypoint,
        labels: labels.into_iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect(),
        files: out,
    })
}

/// Unpacks an image into a directory of its own and runs its program there, as its user, with nothing else of this machine in
/// sight: for its version, which is the answer, and for its help. Needs root.
///
/// Errors: [`Error::Command`] with what the program complains of; [`Error::Content`] for help that does not name the program.
pub fn try_out(image: &Read) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().during(|| "making a directory".to_owned())?;
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.path(), open).during(|| "opening a directory".to_owned())?;
    for (path, (content, mode)) in &image.files {
        let file = root.path().join(path);
        fs::write(&file, content)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(*mode)))
            .during(|| format!("writing {}", file.display()))?;
    }
    let run = |argument: &str| {
        let mut run = Command::new("chroot");
        run.arg(format!("--userspec={}", image.user)).arg(root.path()).args(&image.entrypoint);
        command::run(run.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg(argument))
    };
    let program = image.labels.get("org.opencontainers.image.title").map_or("", String::as_str);
    let help = run("--help")?;
    if !help.contains(&format!("Usage: {program}")) {
        return Err(Error::Content {
            file: program.into(),
            field: "--help".to_owned(),
            reason: format!("does not say how {program:?} is used: {help:?}"),
        });
    }
    run("--version").map(|text| text.trim().to_owned())
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

/// The machine of a static program, as images name it.
///
/// Source: elf(5); `PT_INTERP` is the program header of what a dynamic program needs of the system.
fn architecture(program: &[u8]) -> Result<&'static str, &'static str> {
    const PT_INTERP: u32 = 3;
    let no_elf = "is not a 64-bit little-endian ELF file";
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let slice = program.get(at..at.checked_add(bytes)?)?;
        Some(slice.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    if program.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(no_elf);
    }
    let headers = number(0x20, 8).and_then(|n| usize::try_from(n).ok()).ok_or(no_elf)?;
    let (size, count) = number(0x36, 2).zip(number(0x38, 2)).ok_or(no_elf)?;
    for n in 0..count {
        let at =
            usize::try_from(n * size).ok().and_then(|o| headers.checked_add(o)).ok_or(no_elf)?;
        if number(at, 4).ok_or(no_elf)? == u64::from(PT_INTERP) {
            return Err("is a dynamic program; an image of it alone would not run");
        }
    }
    match number(0x12, 2) {
        Some(0x3e) => Ok("amd64"),
        Some(0xb7) => Ok("arm64"),
        _ => Err("is for a machine that images of ours do not name"),
    }
}

/// A tar file that grows.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// Adds a file of root's, from the beginning of time.
    fn file(&mut self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        let too_long = |what: &str| Error::Content {
            file: name.into(),
            field: "tar".to_owned(),
            reason: format!("its {what} does not fit a ustar header"),
        };
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &[u8]| {
            if let Some(slot) = header.get_mut(at..at + text.len()) {
                slot.copy_from_slice(text);
            }
        };
        if name.len() > 100 {
            return Err(too_long("name"));
        }
        let size = format!("{:011o}", content.len());
        if size.len() > 11 {
            return Err(too_long("size"));
        }
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, size.as_bytes());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        let sum = format!("{sum:06o}\0 ");
        if let Some(slot) = header.get_mut(148..156) {
            slot.copy_from_slice(sum.as_bytes());
        }
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    /// Two empty blocks end it.
    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

/// The plain files of a tar file, with their modes.
fn untar(bytes: &[u8]) -> Result<BTreeMap<String, (Vec<u8>, u32)>, String> {
    let mut out = BTreeMap::new();
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + BLOCK).ok_or("ends without an end")?;
        if header.iter().all(|b| *b == 0) {
            return Ok(out);
        }
        let field = |from: usize, to: usize| -> String {
            let slice = header.get(from..to).unwrap_or_default();
            let end = slice.iter().position(|b| *b == 0).unwrap_or(slice.len());
            String::from_utf8_lossy(slice.get(..end).unwrap_or_default()).trim().to_owned()
        };
        let octal = |text: &str| {
            u32::from_str_radix(text, 8).map_err(|_| format!("{text:?} is no octal number"))
        };
        let name = field(0, 100);
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) })
            .sum();
        if octal(&field(148, 156))? != sum {
            return Err(format!("{name}: the checksum of its header is wrong"));
        }
        if field(156, 157) != "0" {
            return Err(format!("{name}: is no plain file"));
        }
        let size = octal(&field(124, 136))? as usize;
        let content = bytes
            .get(at + BLOCK..at + BLOCK + size)
            .ok_or_else(|| format!("{name}: is cut short"))?;
        out.insert(name, (content.to_vec(), octal(&field(100, 108))?));
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_file_is_what_tar_reads() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = Tar::default();
        tar.file("a", &[7; 513], 0o755).unwrap();
        tar.file("b/c", b"text\n", 0o644).unwrap();
        let file = dir.path().join("x.tar");
        fs::write(&file, tar.finish()).unwrap();
        let listed = command::run(Command::new("tar").arg("-tvf").arg(&file)).unwrap();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("-rwxr-xr-x 0/0") && lines[0].contains(" 513 1970-01-01"));
        assert!(lines[1].starts_with("-rw-r--r--") && lines[1].ends_with(" b/c"));
        let text = command::run(Command::new("tar").arg("-xOf").arg(&file).arg("b/c")).unwrap();
        assert_eq!(text, "text\n");
    }

    #[test]
    fn programs_that_would_not_run_are_refused() {
        assert!(architecture(b"#!/bin/sh\n").unwrap_err().contains("ELF"));
        assert!(architecture(b"\x7fELF\x02\x01").unwrap_err().contains("ELF"));
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(architecture(&own).unwrap_err().contains("dynamic"));
    }

    #[test]
    fn a_blob_that_was_changed_is_found() {
        let mut tar = Tar::default();
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644).unwrap();
        let entry = descriptor(MANIFEST, b"{}");
        let index = json!({"manifests": [entry]}).to_string();
        tar.file("index.json", index.as_bytes(), 0o644).unwrap();
        tar.file(&blob_path(&digest(b"{}")), b"{ }", 0o644).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image.tar");
        fs::write(&file, tar.finish()).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("manifest") && error.contains("has the digest"), "{error}");
    }
}
