//! The simulated OAuth servers against their vendors' facts.
