//! Images from nothing: what is written can be read back along its digests, by other tools, too, and the program in it runs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::command;
use weir_testbed::image::{self, Image};

/// A static program that says its version, built here and now.
fn program(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("hello.rs"), dir.join("hello"));
    fs::write(
        &source,
        r#"fn main() {
            match std::env::args().nth(1).unwrap().as_str() {
                "--version" => println!("hello 1.2.3"),
                "--help" => println!("Usage: hello"),
                other => panic!("{other}"),
            }
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
    let labels = [("org.opencontainers.image.licenses".to_owned(), "Apache-2.0".to_owned())];
    let image =
        Image { name: "weir.io/hello:1.2.3", program: &program, user: 65532, labels: &labels };
    let archive = dir.path().join("hello.tar");
    image::write(&image, &archive).unwrap();

    let back = image::read(&archive).unwrap();
    assert_eq!(back.name, "weir.io/hello:1.2.3");
    assert_eq!(back.user, "65532:65532");
    assert_eq!(back.entrypoint, ["/hello"]);
    assert_eq!(
        back.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        [
            "org.opencontainers.image.licenses=Apache-2.0",
            "org.opencontainers.image.title=hello",
            "org.opencontainers.image.version=1.2.3",
        ]
    );
    let (content, mode) = &back.files["hello"];
    assert_eq!((*content == fs::read(&program).unwrap(), *mode), (true, 0o755));
    assert_eq!(back.files.len(), 1);
    assert_eq!(image::try_out(&back).unwrap(), "hello 1.2.3");

    let again = dir.path().join("again.tar");
    image::write(&image, &again).unwrap();
    assert!(fs::read(&archive).unwrap() == fs::read(&again).unwrap(), "not the same twice");
    assert_eq!(image::read(&again).unwrap().digest, back.digest);
}

/// Along the digests by hand, with tar and sha256sum, as the specification of the layout has it and not as we read it.
#[test]
fn other_tools_find_the_same_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let archive = dir.path().join("hello.tar");
    let image = Image { name: "weir.io/hello:1.2.3", program: &program, user: 65532, labels: &[] };
    image::write(&image, &archive).unwrap();
    let layout = dir.path().join("layout");
    let unpack = |archive: &Path, into: &Path| {
        fs::create_dir(into).unwrap();
        let mut tar = Command::new("tar");
        command::run(tar.arg("-xf").arg(archive).arg("-C").arg(into)).unwrap();
    };
    unpack(&archive, &layout);
    let json_of =
        |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let sum = |path: &Path| {
        let text = command::run(Command::new("sha256sum").arg(path)).unwrap();
        format!("sha256:{}", text.split_whitespace().next().unwrap())
    };
    let mut followed = 0;
    let mut blob = |descriptor: &Value, media_type: &str| -> PathBuf {
        assert_eq!(descriptor["mediaType"], media_type);
        let digest = descriptor["digest"].as_str().unwrap();
        let path = layout.join("blobs").join(digest.replace(':', "/"));
        assert_eq!(sum(&path), digest);
        assert_eq!(descriptor["size"], fs::metadata(&path).unwrap().len());
        followed += 1;
        path
    };

    assert_eq!(json_of(&layout.join("oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json_of(&layout.join("index.json"));
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let entry = &index["manifests"][0];
    // the first is the name that `ctr images import` gives; the second what an image layout calls a tag
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "weir.io/hello:1.2.3");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    let manifest = json_of(&blob(entry, "application/vnd.oci.image.manifest.v1+json"));
    let config = json_of(&blob(&manifest["config"], "application/vnd.oci.image.config.v1+json"));
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let layer = blob(&manifest["layers"][0], "application/vnd.oci.image.layer.v1.tar");
    // the layer is not compressed, and so is what the configuration speaks of
    assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": [sum(&layer)]}));
    for of in [&config, &entry["platform"]] {
        assert_eq!((&of["os"], &of["architecture"]), (&"linux".into(), &machine().into()));
    }
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/hello"]));
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), followed);

    let root = dir.path().join("root");
    unpack(&layer, &root);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "more than the program");
    let mut run = Command::new("chroot");
    run.arg("--userspec=65532:65532").arg(&root).args(["/hello", "--version"]);
    assert_eq!(command::run(&mut run).unwrap(), "hello 1.2.3\n");
}

/// As images name it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => panic!("no images for {other}"),
    }
}

/// A damaged program, one that needs a loader, one whose help is another's: none of them is an image that runs.
#[test]
fn a_program_that_would_not_run_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("x.tar");
    let own = std::env::current_exe().unwrap();
    let image = Image { name: "hello:1", program: &own, user: 0, labels: &[] };
    let error = image::write(&image, &archive).unwrap_err().to_string();
    assert!(error.contains("is a dynamic program"), "{error}");

    let renamed = dir.path().join("other");
    fs::rename(program(dir.path()), &renamed).unwrap();
    let image = Image { name: "other:1", program: &renamed, user: 0, labels: &[] };
    image::write(&image, &archive).unwrap();
    let error = image::try_out(&image::read(&archive).unwrap()).unwrap_err().to_string();
    assert!(error.contains("does not say how \"other\" is used"), "{error}");
}

#[test]
fn what_was_damaged_on_the_way_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let program = program(dir.path());
    let archive = dir.path().join("hello.tar");
    image::write(&Image { name: "hello:1", program: &program, user: 0, labels: &[] }, &archive)
        .unwrap();
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
        let image = Image { name, program: &program, user: 0, labels: &[] };
        let error = image::write(&image, &dir.path().join("x.tar")).unwrap_err().to_string();
        assert!(error.contains("no tag"), "{error}");
    }
}
