//! The rules of the protocols of this crate, so that a model can take one away and show that it
//! then finds an error.
//!
//! Outside of models every rule is kept, which the compiler knows: asking costs no instruction. A
//! model runs its scene under `without`, which is there with `--cfg loom` alone.

use crate::sync::atomic::Ordering;

/// A rule that a protocol relies on, or an ordering that must not be `Relaxed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A slot is loaded Acquire.
    LoadAcquire,
    /// A slot is stored Release.
    StoreRelease,
    /// A slot is healed by compare-and-swap.
    HealByCas,
    /// A slot is healed Release.
    HealRelease,
    /// A store logs the word that it overwrites, while marking runs.
    LogStores,
    /// The overwritten word is read before the store.
    LogThenStore,
    /// What a thread pops of its locals, or the owner of a stack pops or overwrites there, is
    /// logged while marking runs.
    LogPops,
    /// A thread sets its watermark to its top before it touches a slot.
    WatermarkAtTop,
    /// The limit of the scan of locals is set, and then the marking that it is for.
    LimitThenEpoch,
    /// The marking that the limit is for is stored Release.
    EpochRelease,
    /// Roots are said to be scanned when they have been.
    ScanThenSay,
    /// The marker that visits the last piece says so.
    LastPieceSays,
    /// A slot of a root stack is written before the top covers it.
    WriteThenCover,
    /// The top of a root stack is stored Release.
    TopRelease,
    /// The memory of a root stack is given back under the lock under which the owner raises the
    /// limit.
    DiscardUnderLock,
    /// The entry of a dropped root keeps its word.
    KeepDropped,
    /// Entries of dropped roots are taken back only while no marking runs.
    ReclaimWhileIdle,
    /// A weak load logs what it gives, while marking runs.
    WeakLogs,
    /// A weak load tests the mark, while weak slots are resolved.
    WeakTestsMark,
    /// A weak slot is cleared by compare-and-swap.
    ClearByCas,
    /// The value of a new pair is written before its key.
    ValueThenKey,
    /// A dead pair is cleared by its key alone; its value is left as it is.
    ClearKeyAlone,
    /// After the pass over all pairs, every mark looks for pairs that wait for its object.
    LookAfterMark,
    /// Whether a key is live is looked at under the lock of its list.
    LookUnderLock,
    /// A remembered slot is added by a read-modify-write.
    RememberByRmw,
    /// Whether a slot is remembered already is looked at in the part that is added to.
    LookInNow,
    /// The collector remembers a slot by what it has found there, also if another thread heals it
    /// first.
    RememberFound,
    /// A thread that parks while a pause holds it counts as arrived there.
    ArriveWhenParking,
    /// A thread that parks answers a handshake that was asked meanwhile.
    AnswerWhenParking,
    /// A thread that leaves the parked state reads the phase after its compare-and-swap.
    RefreshAfterLeaving,
    /// The mutator that arrives last waits for the end of the pause too, if the collector works in
    /// it.
    LastWaits,
    /// The poll word is set first, and then the mutator looks for what the collector wants.
    ArmThenLook,
    /// A thread that parks publishes first what a pause may need.
    PublishThenPark,
    /// A thread that wakes looks whether the pause is over, and sleeps again if not: a signal wakes
    /// too.
    LookWhenWoken,
    /// A thread that sleeps until a pause is over is counted before.
    CountSleepers,
    /// A full fence stands between ending a pause and looking for sleepers.
    FenceThenLook,
    /// The last to answer a handshake wakes the collector.
    WakeAfterAnswer,
    /// The collector stops spinning for the last to arrive by a compare-and-swap.
    WithdrawByCas,
    /// A thread that serves a fault is counted before it looks whether the flip is active.
    CountServers,
    /// A flip ends when no thread serves a fault.
    CloseFlip,
    /// The last thread that serves a fault wakes the thread that ends the flip.
    LastServerWakes,
    /// A thread that finds a page claimed waits until it is repaired.
    WaitForClaimant,
    /// The pages of an allocated block are repaired before its use changes.
    AdmitThenOpen,
    /// A source is released when the last destination of its objects is repaired.
    ReleaseAfterLast,
    /// The end of a call waits for the helpers that take part in it.
    WaitForHelpers,
    /// The end of a call takes its work back from the desk.
    TakeWorkBack,
    /// A helper takes part in a call once.
    HelpOnce,
    /// The last helper to finish wakes the call.
    WakeCall,
    /// A desk that is closed wakes the helpers that wait at it.
    WakeAtClose,
    /// A thread that takes a brake off locks before it wakes those that wait.
    LockBeforeWaking,
    /// A thread looks under the lock whether a brake is on, and then waits.
    LookBeforeWaiting,
    /// The elements of an array that grows are made, and then its length is stored.
    MakeThenGrow,
    /// The length of an array that grows is stored Release.
    LengthRelease,
    /// The length of an array that grows is read Acquire.
    LengthAcquire,
}

/// Whether the rule holds, as it does outside of models.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn kept(_rule: Rule) -> bool {
    true
}

/// The ordering that the rule asks for.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn order(_rule: Rule, order: Ordering) -> Ordering {
    order
}

#[cfg(loom)]
pub use removed::without;
#[cfg(loom)]
pub(crate) use removed::{kept, order};

#[cfg(loom)]
mod removed {
    use super::{Ordering, Rule};
    use std::cell::RefCell;

    // `loom` runs all threads of a model on the system thread that checks it.
    std::thread_local! {
        static REMOVED: RefCell<Vec<Rule>> = const { RefCell::new(Vec::new()) };
    }

    /// Runs a model without a rule.
    pub fn without(rule: Rule, model: impl FnOnce()) {
        struct PutBack;
        impl Drop for PutBack {
            fn drop(&mut self) {
                REMOVED.with_borrow_mut(Vec::pop);
            }
        }
        REMOVED.with_borrow_mut(|removed| removed.push(rule));
        let _put_back = PutBack;
        model();
    }

    pub(crate) fn kept(rule: Rule) -> bool {
        REMOVED.with_borrow(|removed| !removed.contains(&rule))
    }

    pub(crate) fn order(rule: Rule, order: Ordering) -> Ordering {
        if kept(rule) { order } else { Ordering::Relaxed }
    }
}
