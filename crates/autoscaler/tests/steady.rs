//! A thousand revisions tick without asking the system for memory, busy or idle.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use autoscaler::AutoscalerConfig;
use autoscaler::annotations::Annotations;
use autoscaler::metrics::Stat;
use autoscaler::resolve::{DEFAULT_PROGRESS_DEADLINE, Reachability, Settings};
use autoscaler::revision::{Instances, RevisionScaler};
use autoscaler::time::Timestamp;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REVISIONS: usize = 1_000;

/// A minute of ticks and passes; every third revision has a load that comes and goes.
fn live(scalers: &mut [RevisionScaler], instances: &mut [Instances], begin: Timestamp) -> usize {
    let mut decisions = 0;
    for second in 1..=60 {
        let now = begin + Duration::from_secs(second);
        for (index, (scaler, instances)) in scalers.iter_mut().zip(instances.iter_mut()).enumerate() {
            let concurrency = if index % 3 == 0 { (second % 20) as f64 * 10.0 } else { 0.0 };
            let poked = scaler.record_from_activator(now, Stat { concurrency, ..Stat::default() });
            if !poked && scaler.next_wake(now) > now {
                continue;
            }
            let step = scaler.poll(now, *instances);
            decisions += usize::from(step.decision.is_some());
            if let Some(scale) = step.outcome.and_then(|outcome| outcome.scale) {
                *instances = Instances { ready: scale.unsigned_abs(), replicas: scale };
            }
        }
    }
    decisions
}

#[test]
fn a_thousand_revisions_tick_without_allocating() {
    let begin = Timestamp::from_unix_millis(1_000_000);
    let settings = Settings::resolve(
        &Annotations::new(),
        &AutoscalerConfig::default(),
        0,
        DEFAULT_PROGRESS_DEADLINE,
        Reachability::Reachable,
    );
    let mut scalers = vec![RevisionScaler::new(settings, 1, begin); REVISIONS];
    let mut instances = vec![Instances { ready: 1, replicas: 1 }; REVISIONS];
    // Timers get their room in the first minutes.
    for minute in 0..3 {
        live(&mut scalers, &mut instances, begin + Duration::from_secs(60 * minute));
    }

    let before = ALLOCATIONS.get();
    let decisions = live(&mut scalers, &mut instances, begin + Duration::from_secs(180));
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(decisions >= 30 * REVISIONS, "{decisions}");
    assert!(instances.iter().step_by(3).all(|busy| busy.replicas > 0));
    assert!(instances.iter().skip(1).step_by(3).all(|idle| idle.replicas == 0));
}
