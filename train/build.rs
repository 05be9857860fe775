//! Tells the linker where libtorch is, so that the executable finds it at run time without `LD_LIBRARY_PATH`: in
//! `../lib/counterweight` from its own folder, where `make install` puts it, or else where it was built with.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=COUNTERWEIGHT_RELOCATABLE");
    // Set by torch-sys to the folder that it links against.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/counterweight");
    // An installed executable names no folder of the machine that built it.
    if std::env::var_os("COUNTERWEIGHT_RELOCATABLE").is_none() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    // Nothing refers to a symbol of the CUDA libraries, yet they must be loaded.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    println!("cargo:rustc-link-arg=-ltorch");
}
