//! Texts of conditions and Events, exactly as users and tools know them.
