//! Compiles the protobuf files without a system compiler.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["weir/v1/weir.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".weir.v1")
        // ordered maps, so that equal objects have equal bytes
        .btree_map(".weir.v1")
        .codec_path("crate::codec::Fitted")
        .compile_fds(files)?;
    Ok(())
}
