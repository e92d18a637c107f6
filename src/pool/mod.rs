//! Which account may carry this request, and how much of its quota is set aside for it (`pool.md`). (To be written.)
pub mod settings;
