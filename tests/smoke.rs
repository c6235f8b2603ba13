//! The whole program on a node with a real kernel, boot loader and partitions: upgraded, finalized, and rolled back.

use anyhow::Result;
use boxed::Release;
use vm::{Ground, scenarios};

#[test]
fn a_vm_is_upgraded_and_finalized_or_rolled_back() -> Result<()> {
    let ground = Ground::prepare("smoke", &[Release::V4_17_4])?;
    scenarios::smoke(&ground)
}
