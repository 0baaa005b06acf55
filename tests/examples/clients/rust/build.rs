//! Writes the stubs from the descriptor set: all of proto/, its imports included, in one file. No protoc is needed.

use prost::Message;
use prost_types::FileDescriptorSet;

const DESCRIPTORS: &str = "../../../../services/reflux/api/reflux.binpb";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={DESCRIPTORS}");
    let descriptors = FileDescriptorSet::decode(&*std::fs::read(DESCRIPTORS)?)?;
    tonic_prost_build::configure()
        .build_server(false)
        .disable_comments(["."]) // our comments are no rustdoc
        .include_file("stubs.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
