//! Images from nothing: what is written can be read back along its digests, and the program in it runs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_testbed::image::{self, Image};

/// A static program that says its version, built here and now.
fn program(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("hello.rs"), dir.join("hello"));
    fs::write(
        &source,
        r#"fn main() {
            let asked = std::env::args().nth(1).unwrap();
            assert_eq!(asked, "--version");
            println!("hello 1.2.3");
        }"#,
    )
    .unwrap();
    let output = Command::new("rustc")
        .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-o"])
        .arg(&program)
        .arg(&source)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

#[test]
fn an_image_is_read_back_and_its_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let image = Image { name: "weir.io/hello:1.2.3", program: &program, user: 65532 };
    let archive = dir.path().join("hello.tar");
    image::write(&image, &archive).unwrap();

    let back = image::read(&archive).unwrap();
    assert_eq!(back.name, "weir.io/hello:1.2.3");
    assert_eq!(back.user, "65532:65532");
    assert_eq!(back.entrypoint, ["/hello"]);
    let (content, mode) = &back.files["hello"];
    assert_eq!((*content == fs::read(&program).unwrap(), *mode), (true, 0o755));
    assert_eq!(back.files.len(), 1);
    assert_eq!(image::try_out(&back).unwrap(), "hello 1.2.3");

    let again = dir.path().join("again.tar");
    image::write(&image, &again).unwrap();
    assert!(fs::read(&archive).unwrap() == fs::read(&again).unwrap(), "not the same twice");
}

#[test]
fn what_was_damaged_on_the_way_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let archive = dir.path().join("hello.tar");
    image::write(&Image { name: "hello:1", program: &program, user: 0 }, &archive).unwrap();
    let mut bytes = fs::read(&archive).unwrap();
    // in the middle of the layer, which is by far the largest part
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let error = image::read(&archive).unwrap_err().to_string();
    assert!(error.contains("layer"), "{error}");
}

#[test]
fn a_name_without_a_tag_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    for name in ["hello", "registry:5000/hello"] {
        let image = Image { name, program: &program, user: 0 };
        let error = image::write(&image, &dir.path().join("x.tar")).unwrap_err().to_string();
        assert!(error.contains("no tag"), "{error}");
    }
}
