//! Fetching over several connections: what has an order on one connection each, the rest on all that are free.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::try_join_all;
use seed::registry::{Batch, Pieces, Ranges, RegistryError};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::need::Request;
use crate::transfer::Transfer;

/// Requests, and who takes what they bring.
pub(super) struct Lane {
    pub(super) requests: Vec<Request>,
    pub(super) out: Sender<Batch>,
}

/// Fetches everything; each of `ordered` in its order, and `others` in any.
pub(super) async fn fetch(
    ranges: &Ranges<'_>,
    ordered: Vec<Lane>,
    others: Lane,
    connections: usize,
    allowance: &Arc<Semaphore>,
    transfer: &Transfer<'_>,
) -> Result<(), RegistryError> {
    let ordered: RefCell<VecDeque<Lane>> = RefCell::new(ordered.into());
    let (requests, out) = (RefCell::new(VecDeque::from(others.requests)), others.out);
    let connection = || async {
        loop {
            // Each borrow ends before anything is waited for.
            let lane = ordered.borrow_mut().pop_front();
            if let Some(Lane { requests, out }) = lane {
                for request in requests {
                    one(ranges, request, &out, allowance, transfer).await?;
                }
                continue;
            }
            let request = requests.borrow_mut().pop_front();
            match request {
                Some(request) => one(ranges, request, &out, allowance, transfer).await?,
                None => return Ok(()),
            }
        }
    };
    let all = (0..connections.max(1)).map(|_| connection());
    try_join_all(all).await.map(drop)
}

/// Fetches one range. All that is wanted of it takes its permits before it is asked for, so that what is on its way counts too.
async fn one(
    ranges: &Ranges<'_>,
    request: Request,
    out: &Sender<Batch>,
    allowance: &Arc<Semaphore>,
    transfer: &Transfer<'_>,
) -> Result<(), RegistryError> {
    let mut watch = transfer;
    let wanted = request.wanted();
    let permits = allowance.acquire_many(wanted);
    match ranges.until_stopped(&mut watch, permits).await? {
        Ok(permits) => permits.forget(),
        // Somebody has failed, and says so.
        Err(_closed) => return Ok(()),
    }
    let mut pieces = Pieces::new(request.pieces, out.clone(), Arc::clone(allowance));
    ranges.fetch(request.bytes, &mut pieces, &mut watch).await?;
    let mut watch = transfer;
    if !ranges.until_stopped(&mut watch, pieces.finish()).await? {
        // Nobody takes it: whoever should has failed and says so, or has all that it needs.
        let lost = (wanted as usize).saturating_sub(pieces.passed_on());
        allowance.add_permits(lost);
    }
    Ok(())
}
