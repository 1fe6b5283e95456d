//! Links the RocksDB of the distribution.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-lib=dylib=rocksdb");
}
