//! Why this exists: pingora-core asks for `flate2/zlib-ng`, and the build script of the real `libz-ng-sys` needs
//! cmake, which a fresh machine does not have. Weir never compresses anything, so plain zlib behind the same
//! names is all that is needed to link.
pub use libz_sys::*;
