//! A guest that misbehaves on request, one route per misdeed, and answers small questions about its sandbox on the
//! others. The runtime's tests drive it; nothing else uses it. Built for anything but WebAssembly it is empty.

#[cfg(target_arch = "wasm32")]
mod guest;
