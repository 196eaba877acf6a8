use super::samples::{read, runs};
use super::*;
use serde_json::{Value, json};

const ROOMY: Memory = Memory { total_bytes: 24 << 30, available_bytes: 20 << 30 };

/// What the JSON of a run says that it is.
fn settings(plan: &Plan) -> Value {
    serde_json::to_value(plan).unwrap()
}

#[test]
fn a_plain_run_is_the_issue_s_list() {
    let plans = runs(&["--repeats", "1"]).unwrap();
    let shape: Vec<_> = plans
        .iter()
        .map(|p| {
            let of = settings(p);
            (p.work.name(), p.work.threads(), p.heap.heap_bytes >> 20, of["size"].as_u64(), of["rate"].as_u64())
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("gcbench", 1, 256, Some(30), Some(0)),
            ("binary-trees", 1, 512, Some(20), Some(0)),
            ("binary-trees", 2, 512, Some(20), Some(0)),
            ("message-ring", 1, 1024, Some(5_000_000), Some(0)),
            ("table-churn", 2, 2048, Some(750_000), Some(0)),
        ]
    );
    assert_eq!(settings(&plans[1])["warm_up"], 17);
    assert!(plans.iter().all(|p| p.check(ROOMY).is_ok()));
    assert_eq!(standard_runs(&read(&[]).unwrap()).unwrap().schedule.repeats, 3);
    assert!(runs(&["--quick"]).unwrap().iter().all(|p| p.check(ROOMY).is_ok()));
}

#[test]
fn threads_given_make_one_run_a_repeat() {
    let plans = runs(&["binary-trees", "--threads", "2", "--repeats", "1"]).unwrap();
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].work.threads(), 2);
}

#[test]
fn each_barrier_is_a_configuration_and_the_baseline_is_two() {
    let plans = runs(&["gcbench", "--barrier", "load,stw", "--repeats", "2"]).unwrap();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let found: Vec<_> = plans.iter().map(|p| (p.heap.barrier, p.heap.workers)).collect();
    let (load, stw) = (Collector::LOAD, Collector::STW);
    let expected = [(load, 0), (stw, processors), (stw, 1)];
    assert_eq!(found, expected[..if processors > 1 { 3 } else { 2 }]);
    let last = plans.last().unwrap();
    assert_eq!((last.label().as_str(), last.work_label().as_str()), ("gcbench, stw, 1 worker", "gcbench"));
    // By itself it is one, and with a number of workers that was said too.
    let workers = |args: &[&str]| runs(args).unwrap().iter().map(|p| p.heap.workers).collect::<Vec<_>>();
    assert_eq!(workers(&["gcbench", "--barrier", "stw"]), [processors]);
    assert_eq!(workers(&["gcbench", "--barrier", "load,stw", "--workers", "3"]), [3, 3]);
    assert_eq!(runs(&["gcbench", "--barrier", "stw", "--workers", "3"]).unwrap()[0].label(), "gcbench, stw, 3 workers");
    assert!(runs(&["gcbench", "--barrier", "stw,stw"]).unwrap_err().line().contains("twice"));
}

#[test]
fn withheld_processors_are_in_the_plan_and_the_baseline_has_no_worker_for_them() {
    let own = gc_core::sys::affinity().unwrap();
    let plans = runs(&["gcbench", "--barrier", "load,stw", "--cpus", "1"]).unwrap();
    let found: Vec<_> = plans.iter().map(|p| (p.heap.workers, p.heap.cpus.clone())).collect();
    assert_eq!(found, [(0, vec![own[0]]), (1, vec![own[0]])], "one worker, and so no second row");
    assert_eq!(plans[0].label(), format!("gcbench, on processor {}", own[0]));
    assert_eq!(settings(&plans[0])["cpus"], json!([own[0]]));
    assert_eq!(settings(&runs(&["gcbench"]).unwrap()[0]).get("cpus"), None);
    let all = format!("{}-{}", own[0], own[own.len() - 1]);
    if own.len() > 1 && own[own.len() - 1] - own[0] == own.len() - 1 {
        assert_eq!(runs(&["gcbench", "--cpus", &all]).unwrap()[0].label(), format!("gcbench, on processors {all}"));
    }
    for wrong in ["0", "x", "60000", "2-1", "65000-65001"] {
        assert_eq!(runs(&["gcbench", "--cpus", wrong]).expect_err(wrong).code(), 2);
    }
}

#[test]
fn a_sweep_is_saturated_runs_and_then_parts_of_their_rate() {
    let plans = runs(&["gcbench", "--rate", "sweep", "--repeats", "2", "--barrier", "load,page"]).unwrap();
    let rates: Vec<_> = plans.iter().map(|p| (p.rate, p.rate_percent)).collect();
    let expected: Vec<_> = [0, 50, 70, 90].iter().flat_map(|&percent| [(0, percent); 2]).collect();
    assert_eq!(rates, expected);
    let third = Plan { repeat: 3, ..plans[0].clone() };
    assert!(third.is_saturated_run_of(&plans[2]), "whichever repeat");
    assert!(!plans[1].is_saturated_run_of(&plans[2]), "of another barrier");
    assert!(!plans[4].is_saturated_run_of(&plans[2]));
    assert_eq!(plans[4].label(), "gcbench, 70 % of its rate");
    let set = runs(&["--rate", "300000", "--repeats", "1"]).unwrap();
    assert!(set.iter().all(|p| p.rate == 300_000), "every workload has it");
    assert_eq!(set[4].label(), "table-churn, 2 threads, 300,000 op/s each");
    for wrong in ["0", "fast", "1000000001", "-3"] {
        assert_eq!(runs(&["--rate", wrong]).expect_err(wrong).code(), 2);
    }
}

#[test]
fn an_option_without_use_is_an_error() {
    for args in [
        &["message-ring", "--threads", "2"][..],
        &["binary-trees", "--seconds", "3"],
        &["gcbench", "--seed", "3"],
        &["--size", "3"],
        &["gcbench", "message-ring", "--size", "3"],
        &["gcbench", "gcbench"],
        &["binary-trees", "--size", "60"],
    ] {
        let e = runs(args).expect_err(&format!("{args:?}"));
        assert_eq!(e.code(), 2, "{e}");
    }
    assert!(runs(&["table-churn", "--rate", "300000", "--seed", "3", "--seconds", "2", "--size", "1000"]).is_ok());
}

#[test]
fn an_option_is_refused_with_the_workloads_that_have_it() {
    let said = |args: &[&str]| runs(args).expect_err("refused").line();
    assert!(said(&["gcbench", "--threads", "2"]).contains("gcbench has no use for --threads"));
    assert!(said(&["gcbench", "--threads", "2"]).contains("(binary-trees, table-churn, lru-cache, tides)"));
    assert!(
        said(&["--seed", "2"])
            .contains("gcbench has no use for --seed: name the workloads that have (table-churn, lru-cache, tides)")
    );
    assert!(said(&["--size", "2"]).contains("name the one it is for"));
    assert!(said(&["binary-trees", "--size", "60"]).contains("--size of binary-trees must be 5 to 32"));
    assert_eq!(runs(&["binary-trees", "table-churn", "--threads", "3", "--repeats", "1"]).unwrap().len(), 2);
}

#[test]
fn the_settings_of_a_run_are_flat_and_read_back() {
    let plan = &runs(&["table-churn", "--rate", "300000", "--seed", "3", "--seconds", "2.5", "--quick"]).unwrap()[0];
    let expected = json!({
        "workload": "table-churn", "size": 50_000, "threads": 2, "seconds": 2.5, "warm_up_seconds": 0.5,
        "rate": 300_000, "rate_percent": 0, "seed": 3, "barrier": "load", "heap_bytes": 256 << 20, "workers": 0, "pretouch": true,
        "huge_pages": "never", "repeat": 1, "quick": true, "stretches": false,
    });
    assert_eq!(settings(plan), expected);
    let args = ["--barrier", "page-anonymous", "--huge-pages", "advise", "--workers", "3"];
    let mut all = runs(&args).unwrap();
    all.extend(json_runs(&read(&[]).unwrap(), 77, Census::of("[]").unwrap()).unwrap().plans);
    all.extend(scaling_runs(&read(&[]).unwrap(), ROOMY).unwrap().0.plans);
    for plan in all {
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!((settings(&read), read.label()), (settings(&plan), plan.label()));
        assert_eq!(settings(&plan)["workload"], plan.work.name());
    }
}

#[test]
fn the_heap_s_own_refusal_is_what_the_bench_says() {
    let check = |args: &[&str]| runs(args).unwrap()[0].check(ROOMY).expect_err("refused").line();
    for workers in ["65", "1025"] {
        let said = check(&["gcbench", "--workers", workers]);
        let own = gc_heap::Heap::builder().workers(workers.parse().unwrap()).check().unwrap_err();
        assert_eq!(said, own.to_string());
    }
    assert!(check(&["gcbench", "--huge-pages", "collapse", "--no-pretouch"]).contains("pretouch"));
    assert!(check(&["binary-trees", "--threads", "1025", "--size", "5"]).contains("1024 mutator threads"));
}

#[test]
fn a_heap_that_cannot_hold_the_document_is_refused() {
    let document = format!("[{}]", ["{\"a\": [1, 2, \"three\"]}"; 50_000].join(","));
    let census = Census::of(&document).unwrap();
    let args = read(&["--heap", "8m"]).unwrap();
    let said = json_runs(&args, 1, census).unwrap().plans[0].check(ROOMY).expect_err("refused").line();
    assert!(said.contains("a heap of 8 MiB cannot hold json") && said.contains("alive at once"), "{said}");
    assert!(json_runs(&read(&[]).unwrap(), 1, census).unwrap().plans[0].check(ROOMY).is_ok());
}

#[test]
fn heaps_that_cannot_work_are_refused() {
    let check = |args: &[&str]| runs(args).unwrap()[0].check(ROOMY).expect_err("refused").line();
    assert!(check(&["gcbench", "--heap", "0"]).contains("0 bytes"));
    assert!(check(&["gcbench", "--heap", "1t"]).contains("does not fit this machine: it has 24 GiB"));
    assert!(check(&["gcbench", "--heap", "21g"]).contains("--no-pretouch"));
    assert!(check(&["message-ring", "--heap", "64m"]).contains("alive at once"));
    assert!(runs(&["gcbench", "--heap", "21g", "--no-pretouch"]).unwrap()[0].check(ROOMY).is_ok());
    assert!(runs(&["table-churn", "--heap", "1g"]).unwrap()[0].check(ROOMY).is_ok());
}

#[test]
fn what_a_heap_gives_back_is_in_the_settings() {
    let args = ["message-ring", "--soft-max", "512m", "--uncommit-delay", "2.5", "--spare", "1g"];
    let plan = &runs(&args).unwrap()[0];
    let of = settings(plan);
    assert_eq!((of["soft_max_bytes"].as_u64(), of["spare_bytes"].as_u64()), (Some(512 << 20), Some(1 << 30)));
    assert_eq!(of["uncommit_delay_s"].as_f64(), Some(2.5));
    assert!(plan.check(ROOMY).is_ok());
    assert_eq!(serde_json::from_value::<Plan>(of).unwrap(), *plan);
    let heap = plan.heap.builder().pretouch(false).build().unwrap();
    assert_eq!((heap.max_bytes(), heap.soft_max_bytes()), (1 << 30, 512 << 20));
}

#[test]
fn options_of_the_heap_reach_it_and_stand_in_the_settings() {
    let plan = |args: &[&str]| runs(&[&["gcbench", "--no-pretouch"], args].concat()).unwrap().remove(0);
    let given = plan(&["--address-factor", "4", "--memory-stall-limit", "0.25"]);
    let of = settings(&given);
    assert_eq!((of["address_factor"].as_u64(), of["memory_stall_limit"].as_f64()), (Some(4), Some(0.25)));
    assert!(given.check(ROOMY).is_ok());
    assert_eq!(serde_json::from_value::<Plan>(of).unwrap(), given);
    let same = |args: &[&str], set: fn(gc_heap::HeapBuilder) -> gc_heap::HeapBuilder| {
        let expected = set(plan(&[]).heap.builder());
        assert_eq!(format!("{:?}", plan(args).heap.builder()), format!("{expected:?}"));
    };
    same(&["--address-factor", "4"], |builder| builder.address_factor(4));
    same(&["--memory-stall-limit", "0.25"], |builder| builder.memory_stall_limit(Some(0.25)));
    let of = settings(&plan(&[]));
    assert_eq!((of.get("address_factor"), of.get("memory_stall_limit")), (None, None), "nobody set them");
}

#[test]
fn an_address_factor_that_the_heap_refuses_is_refused_in_its_words() {
    let own = gc_heap::Heap::builder().address_factor(17).check().unwrap_err();
    let said = runs(&["gcbench", "--address-factor", "17"]).unwrap()[0].check(ROOMY).expect_err("refused").line();
    assert_eq!(said, own.to_string());
}

/// Its heap shows what memory it has, and its soft maximum may lie between low and high water.
#[test]
fn a_heap_whose_load_rises_and_falls_is_not_touched_beforehand() {
    let plan = &runs(&["tides", "--soft-max", "100m"]).unwrap()[0];
    assert!(!plan.heap.pretouch && plan.check(ROOMY).is_ok());
    assert_eq!((plan.heap.heap_bytes, plan.label().as_str()), (1 << 30, "tides, 2 threads"));
    let of = settings(plan);
    assert_eq!((of["period_seconds"].as_f64(), of["warm_up_seconds"].as_f64()), (Some(2.5), Some(2.5)));
    let below = &runs(&["tides", "--soft-max", "60m"]).unwrap()[0];
    assert!(below.check(ROOMY).expect_err("refused").line().contains("more than 64 MiB are alive all the time"));
    let said = runs(&["tides", "--peer", "g1"]).expect_err("refused").line();
    assert_eq!(said, "tides is of this heap alone: leave out --peer");
}

#[test]
fn a_soft_maximum_that_cannot_work_is_refused() {
    let said = |args: &[&str]| runs(args).unwrap()[0].check(ROOMY).expect_err("refused").line();
    let above = said(&["gcbench", "--heap", "256m", "--soft-max", "257m"]);
    assert!(above.contains("257 MiB is more than the heap's maximum of 256 MiB"), "{above}");
    assert!(said(&["gcbench", "--soft-max", "1m"]).contains("less than the smallest heap has, 4 MiB"));
    let below = said(&["message-ring", "--soft-max", "64m"]);
    assert!(below.contains("cannot hold message-ring at this size: more than 200 MiB are alive"), "{below}");
    assert!(runs(&["gcbench", "--heap", "256m", "--soft-max", "256m"]).unwrap()[0].check(ROOMY).is_ok());
    for args in [
        ["--soft-max", "64m"],
        ["--uncommit-delay", "1"],
        ["--spare", "1g"],
        ["--address-factor", "2"],
        ["--memory-stall-limit", "0.1"],
    ] {
        let said = runs(&[&["gcbench", "--peer", "g1"][..], &args].concat()).expect_err("refused").line();
        assert!(said.contains(args[0]) && said.contains("leave out that or --peer"), "{said}");
    }
}

#[test]
fn scaling_leaves_out_what_does_not_fit_and_says_so() {
    let scaling = |memory| {
        let (runs, left_out) = scaling_runs(&read(&[]).unwrap(), memory).unwrap();
        (runs.plans, left_out)
    };
    let (plans, left_out) = scaling(ROOMY);
    assert_eq!((plans.len(), left_out.len()), (8, 0));
    assert!(plans.iter().all(|p| p.check(ROOMY).is_ok()));
    let (plans, left_out) = scaling(Memory { total_bytes: 4 << 30, available_bytes: 3 << 30 });
    assert_eq!((plans.len(), left_out.len()), (7, 1));
    assert!(left_out[0].starts_with("4 GiB"));
}
