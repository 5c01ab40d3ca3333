//! Every target's body over every file of its corpus, whole and cut, without the fuzzer.

use std::fs;
use std::path::Path;

use weir_fuzz::TARGETS;

/// Places at which each file is cut.
const CUTS: usize = 16;

#[test]
fn the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, body) in TARGETS {
        let dir = corpus.join(name);
        let mut files: Vec<_> = fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= 3, "{name} has hardly a corpus");
        for file in files {
            // shown with a failure
            println!("{}", file.display());
            let data = fs::read(&file).unwrap();
            assert!(data.len() < 8 << 10, "{} is too large to keep", file.display());
            body(&data);
            (1..CUTS).for_each(|n| body(&data[..data.len() * n / CUTS]));
        }
    }
}

#[test]
fn every_target_is_known_by_its_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut targets: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    programs.sort();
    targets.sort();
    assert_eq!(programs, targets);
}
