//! Manifests in files: offline.

use std::io::Read;
use std::path::{Path, PathBuf};

use weir_policy::k8s;

use super::{Collector, Objects, Origin};
use crate::exit::Failure;
use crate::out::Out;

/// Reads files, directories (every `.yaml`, `.yml` and `.json` below) and `-` for stdin.
///
/// Errors: a file that cannot be read, and objects that cannot be used: an answer without them could be wrong.
pub fn read(paths: &[PathBuf], out: &mut Out<'_>) -> Result<Objects, Failure> {
    let mut collector = Collector::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| Failure::File { path: path.clone(), source })?;
            document(&mut collector, &text, "stdin", out);
            continue;
        }
        let mut files = Vec::new();
        list(path, true, &mut files)?;
        for file in files {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| Failure::File { path: file.clone(), source })?;
            document(&mut collector, &text, &file.display().to_string(), out);
        }
    }
    if collector.rejected > 0 {
        return Err(Failure::Rejected { count: collector.rejected });
    }
    let names = paths.iter().map(|p| p.display().to_string()).collect();
    let objects = collector.objects;
    Ok(collector.finish(Origin::Files { names, objects }, out))
}

fn document(collector: &mut Collector, text: &str, place: &str, out: &mut Out<'_>) {
    let (values, rejections) = k8s::read_documents(text);
    for rejection in &rejections {
        collector.reject(place, rejection, out);
    }
    for value in values {
        collector.document(value, place, out);
    }
}

/// A file that is named is read whatever it is called; below a directory only manifests are, in the order of names.
fn list(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if named || manifest {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // directories of tools (.git), and the versioned directories behind a mounted ConfigMap
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort();
    for entry in entries {
        list(&entry, false, files)?;
    }
    Ok(())
}
