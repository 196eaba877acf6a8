//! Memory barriers in all threads at once, which let the common side of a protocol go without one.

use gc_core::sys::{self, Membarrier};

use super::effort::{timed, timed_beside};
use super::memory::{ONE_PROCESSOR, Spinner};
use super::reporter::{Reporter, What};
use super::row::Per;

pub(super) fn measure(to: &mut Reporter) {
    let kinds = [
        ("membarrier expedited", Membarrier::PrivateExpedited, "Linux 4.14"),
        ("membarrier expedited, sync core", Membarrier::PrivateExpeditedSyncCore, "Linux 4.16"),
        ("membarrier global", Membarrier::Global, "Linux 4.3"),
    ];
    for (name, kind, since) in kinds {
        // Announced before other threads run: with them it takes milliseconds.
        let ready = sys::membarrier_register(kind);
        let once = || sys::membarrier(kind);
        let what = |name| What { name, bytes: 0, per: Per::Call, since };
        to.row(what(name), |effort| ready.and_then(|()| effort.repeat(|| timed(once))));
        let beside = format!("{name}, second thread runs");
        match Spinner::start() {
            Some(other) => {
                to.row(what(&beside), |effort| ready.and_then(|()| effort.repeat_some(|| timed_beside(&other, once))));
            }
            None => to.left_out(what(&beside), ONE_PROCESSOR),
        }
    }
}
