//! A guest that misbehaves on request, one route per misdeed, and answers small questions about its sandbox on the
//! others. Its initialisation remembers the version that is mounted. The runtime's tests drive it; nothing else uses it. Built for anything but WebAssembly it is empty.

#[cfg(target_arch = "wasm32")]
mod bake;
#[cfg(target_arch = "wasm32")]
mod guest;
