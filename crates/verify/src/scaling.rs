//! Down to no pods, up from none, and up to several.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use futures_util::future::join_all;
use kube::ResourceExt;
use tokio::time::{Instant, sleep};

use crate::{
    dataset,
    failure::{Failure, Result},
    gateway::Gateway,
    pods,
    preconditions::{SERVING, settings},
    report::Held,
    run::Run,
    wait::{Look, duration, until},
};

/// Requests by which an awake function is timed.
const WARM: usize = 10;

/// A burst's least length: Knative decides every two seconds, by what it has seen in the last six.
const BURST: Duration = Duration::from_secs(10);

/// How long a client waits after an answer that is none.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// The function that is called.
const FUNCTION: &str = "inference";

/// Waits until no function has a pod.
///
/// # Errors
/// Which pods are left when the time is over
pub async fn to_zero(run: &Run) -> Result<((), Held)> {
    let zero = until(&run.teller, "zero pods", run.options.patience.zero, async || {
        let pods = match pods::of_functions(run).await {
            Ok(pods) => pods,
            Err(error) => return Look::failed(error),
        };
        let left = pods.iter().map(|pod| format!("{} {}", pod.name_any(), pods::phase(pod))).collect::<Vec<_>>();
        Ok(if left.is_empty() {
            Look::Done(())
        } else {
            Look::Wait(format!("{} left ({})", left.len(), left.join(", ")))
        })
    });
    if let Err(failure) = zero.await {
        let settings = settings(run, "config-autoscaler").await;
        let told = settings.iter().map(|(key, value)| format!("config-autoscaler: {key}: {value}"));
        let look = run.kubectl_here("get podautoscalers.autoscaling.internal.knative.dev -o wide");
        return Err(failure
            .seen(told)
            .mend(look)
            .mend(run.kubectl.shown(&format!("-n {SERVING} logs deployment/autoscaler --tail 50"))));
    }
    Ok(((), "no function has a pod".into()))
}

/// Times a request that finds no pod, and those that follow.
///
/// # Errors
/// If it is not answered, or a pod was there
pub async fn cold_request(run: &Run, gateway: &Gateway<'_>) -> Result<((), Held)> {
    let pictures = dataset::unseen(WARM.div_ceil(2) + 1);
    let pods = pods::of_functions(run).await?;
    if let Some(pod) = pods.first() {
        return Err(Failure::new(format!("the request would not be cold: there is {}", pod.name_any())));
    }
    let mut seconds = vec![];
    for (_, picture) in pictures.into_iter().take(WARM + 1) {
        let began = Instant::now();
        let answered = gateway.predict(picture).await;
        let took = began.elapsed();
        answered.map_err(|why| {
            let which = if seconds.is_empty() { "the cold request" } else { "a request right after it" };
            Failure::new(format!("{which} was answered after {} with {why}", duration(took)))
        })?;
        seconds.push(took.as_secs_f64());
    }
    let cold = seconds.remove(0);
    let warm = quantile(&mut seconds, 0.5);
    let says = format!("answered after {cold:.2} s from zero pods; awake, after {warm:.3} s (median of {WARM})");
    Ok(((), Held::from(says).figure("cold_seconds", cold).figure("warm_seconds", warm)))
}

/// What a burst has come to.
#[derive(Default)]
struct Tally {
    seconds: Vec<f64>,
    failed: BTreeMap<String, u32>,
    most_ready: usize,
}

/// Keeps many clients busy until a second pod takes requests.
///
/// # Errors
/// If an answer is no 200, or no second pod comes
pub async fn burst(run: &Run, gateway: &Gateway<'_>) -> Result<((), Held)> {
    let pictures = dataset::unseen(8);
    let (tally, over) = (RefCell::new(Tally::default()), Cell::new(false));
    let began = Instant::now();
    let clients = join_all((0..run.options.burst_clients as usize).map(async |client| {
        for (_, picture) in pictures.iter().cycle().skip(client % pictures.len()) {
            if over.get() {
                break;
            }
            let began = Instant::now();
            let answered = gateway.predict(picture.clone()).await;
            tally.borrow_mut().seconds.push(began.elapsed().as_secs_f64());
            if let Err(why) = answered {
                *tally.borrow_mut().failed.entry(why).or_default() += 1;
                sleep(AFTER_FAILURE).await;
            }
        }
    }));
    let counting = async {
        let counted = until(&run.teller, "a second pod", run.options.patience.burst, async || {
            let pods = match pods::of_functions(run).await {
                Ok(pods) => pods,
                Err(error) => return Look::failed(error),
            };
            let mine = pods.iter().filter(|pod| pods::function(pod) == Some(FUNCTION));
            let ready = mine.filter(|pod| pods::is_ready(pod)).count();
            let mut tally = tally.borrow_mut();
            tally.most_ready = tally.most_ready.max(ready);
            let is_known = tally.most_ready > 1 || !tally.failed.is_empty();
            let how = format!("{} answers, {ready} pods ready", tally.seconds.len());
            Ok(if is_known && began.elapsed() >= BURST { Look::Done(()) } else { Look::Wait(how) })
        });
        let counted = counted.await;
        over.set(true);
        counted
    };
    let (_, counted) = tokio::join!(clients, counting);
    let took = began.elapsed();
    let Tally { mut seconds, failed, most_ready } = tally.into_inner();
    let n = seconds.len();
    if !failed.is_empty() {
        let told = failed.iter().map(|(why, times)| format!("{times} × {why}")).collect::<Vec<_>>().join("; ");
        return Err(Failure::new(format!("of {n} answers, these were no 200: {told}")));
    }
    counted?;
    let (p50, p99) = (quantile(&mut seconds, 0.5), quantile(&mut seconds, 0.99));
    let says = format!(
        "all {n} answers of {} were 200, from up to {most_ready} pods; p50 {p50:.2} s, p99 {p99:.2} s",
        duration(took)
    );
    let held = Held::from(says).figure("answers", n as f64).figure("most_pods", most_ready as f64);
    Ok(((), held.figure("p50_seconds", p50).figure("p99_seconds", p99)))
}

/// The value below which this share of the values lies; 0 of none.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_sorted_values() {
        let mut values = [3.0, 1.0, 2.0, 5.0, 4.0];
        assert!(quantile(&mut values, 0.5) == 3.0 && quantile(&mut values, 0.99) == 5.0);
        assert!(quantile(&mut [], 0.5) == 0.0);
    }
}
