//! One of the workloads, with its settings.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::binary_trees::BinaryTrees;
use super::common::Workload;
use super::gcbench::GcBench;
use super::idle::Idle;
use super::json::Json;
use super::lru_cache::LruCache;
use super::message_ring::MessageRing;
use super::pause_scaling::PauseScaling;
use super::robson::Robson;
use super::table_churn::TableChurn;
use super::tides::Tides;

/// What a run is to do: a workload with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "workload", rename_all = "kebab-case")]
pub(crate) enum Work {
    #[serde(rename = "gcbench")]
    GcBench(GcBench),
    BinaryTrees(BinaryTrees),
    MessageRing(MessageRing),
    TableChurn(TableChurn),
    LruCache(LruCache),
    Tides(Tides),
    Robson(Robson),
    Idle(Idle),
    Json(Json),
    PauseScaling(PauseScaling),
}

impl Deref for Work {
    type Target = dyn Workload;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::GcBench(work) => work,
            Self::BinaryTrees(work) => work,
            Self::MessageRing(work) => work,
            Self::TableChurn(work) => work,
            Self::LruCache(work) => work,
            Self::Tides(work) => work,
            Self::Robson(work) => work,
            Self::Idle(work) => work,
            Self::Json(work) => work,
            Self::PauseScaling(work) => work,
        }
    }
}

macro_rules! works {
    ($($workload:ident)+) => {
        $(impl From<$workload> for Work {
            fn from(work: $workload) -> Self {
                Self::$workload(work)
            }
        })+
    };
}

works!(GcBench BinaryTrees MessageRing TableChurn LruCache Tides Robson Idle Json PauseScaling);
