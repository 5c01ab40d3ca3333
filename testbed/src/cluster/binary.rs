//! Where the servers of a cluster lie: `testbed/kubernetes/build` puts them there, once for each content of its directory.

use std::path::{Path, PathBuf};

use nix::unistd::User;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The files that make the binary what it is, in the order in which `build` sums them up.
const SOURCES: [&[u8]; 5] = [
    include_bytes!("../../kubernetes/go.mod"),
    include_bytes!("../../kubernetes/go.sum"),
    include_bytes!("../../kubernetes/main.go"),
    include_bytes!("../../kubernetes/template.go"),
    include_bytes!("../../kubernetes/build"),
];

/// The binary with etcd, kube-apiserver, kube-controller-manager and kubectl in it.
///
/// Errors: [`Error::Missing`] when it was not built.
pub fn find() -> Result<PathBuf> {
    let below = below_cache();
    let caches = caches();
    caches.iter().map(|cache| cache.join(&below)).find(|file| file.is_file()).ok_or_else(|| {
        let places: Vec<String> =
            caches.iter().map(|c| c.join(&below).display().to_string()).collect();
        Error::Missing(format!(
            "the servers of a cluster are not built ({} is not there): make kubernetes",
            places.join(", nor ")
        ))
    })
}

/// `weir/kubernetes/SUM/kubernetes`.
fn below_cache() -> PathBuf {
    let mut sum = Sha256::new();
    SOURCES.iter().for_each(|s| sum.update(s));
    let hex: String = sum.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    Path::new("weir/kubernetes").join(hex).join("kubernetes")
}

/// The caches of this user and, under sudo, of the one who called it.
fn caches() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let of_home = |home: &Path| home.join(".cache");
    let mut out: Vec<PathBuf> = variable("XDG_CACHE_HOME").map(PathBuf::from).into_iter().collect();
    out.extend(variable("HOME").map(|home| of_home(Path::new(&home))));
    let caller = variable("SUDO_USER").and_then(|u| u.into_string().ok());
    if let Some(user) = caller.and_then(|name| User::from_name(&name).ok().flatten()) {
        out.push(of_home(&user.dir));
    }
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_build_puts_it_where_it_is_looked_for() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/build");
        let cache = tempfile::tempdir().unwrap();
        let output = Command::new(script)
            .arg("--path")
            .env("XDG_CACHE_HOME", cache.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(Path::new(printed.trim()), cache.path().join(below_cache()));
    }
}
