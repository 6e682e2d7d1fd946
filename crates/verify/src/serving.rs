//! Versions that are published, and who answers then.

use std::collections::BTreeMap;

use api::functions::{Publication, Stage};
use cluster::functions::Functions;
use futures_util::{StreamExt, stream};

use crate::{
    dataset::{self, LABELS},
    failure::{Failure, Result},
    gateway::Gateway,
    report::Held,
    run::Run,
    statistics::{accepted, binomial_two_sided},
    wait::{Look, until},
    web::{Model, Share, Web},
};

/// Registry name of the model, as `app-config` has it.
const MODEL: &str = "classifier";

/// The function that versions are published to.
const FUNCTION: &str = "inference";

/// Pictures of each kind that are classified, and how many of all have to be right. Who guesses is right so often in one
/// case of 170.
const ASKED_PER_LABEL: usize = 10;
const LEAST_RIGHT: usize = 16;

/// The canary's part in percent.
const CANARY: u32 = 20;

/// How often a right split is taken for a wrong one.
const FALSE_ALARMS: f64 = 1e-6;

/// Answers that have to be one version's when it has all requests.
const ANSWERS: u32 = 50;

/// Requests on their way at once.
const AT_ONCE: usize = 4;

/// Waits until the first version has all requests, which the web sees to by itself; where the function is called.
///
/// # Errors
/// If it does not come to that
pub async fn first(run: &Run, web: &Web<'_>, version: u32) -> Result<(String, Held)> {
    let url = shares(run, web, &[(version, 100)]).await?;
    Ok((url.clone(), format!("v{version} was baked, has a revision and all requests, at {url}").into()))
}

/// Publishes a version, and waits until the requests are split so.
async fn publish(run: &Run, web: &Web<'_>, version: u32, percent: u32, expected: &[(u32, u32)]) -> Result<String> {
    until(&run.teller, "the web to publish", run.options.patience.answer, async || {
        match web.publish(MODEL, version, percent).await {
            Ok(()) => Ok(Look::Done(())),
            Err(no_answer) => no_answer.look(),
        }
    })
    .await?;
    shares(run, web, expected).await
}

/// Waits until the requests are split so, and the function is ready; its URL.
async fn shares(run: &Run, web: &Web<'_>, expected: &[(u32, u32)]) -> Result<String> {
    let mut expected: Vec<_> = expected.iter().map(|&(version, percent)| Share { version, percent }).collect();
    expected.sort_unstable();
    let what = format!("the split {}", told(&expected));
    until(&run.teller, &what, run.options.patience.publish, async || {
        let Model { mut shares, publications } = match web.model(MODEL).await {
            Ok(model) => model,
            Err(no_answer) => return no_answer.look(),
        };
        shares.sort_unstable();
        if let Some(publication) = publications.first() {
            return Ok(coming(publication));
        }
        if shares != expected {
            return Ok(Look::Wait(format!("it is {}", told(&shares))));
        }
        let services = match Functions::new(run.cluster.clone()).services().await {
            Ok(services) => services,
            Err(error) => return Look::failed(error),
        };
        Ok(match services.into_iter().find(|service| service.name == FUNCTION) {
            Some(service) if service.ready => Look::Done(service.url),
            Some(service) => Look::Wait(service.reason.unwrap_or_else(|| "the function is not ready".to_owned())),
            None => Look::Stuck(format!("there is no function {FUNCTION}")),
        })
    })
    .await
}

fn coming<T>(publication: &Publication) -> Look<T> {
    let Publication { version, stage, reason, .. } = publication;
    let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match stage {
        Stage::Baking => Look::Wait(format!("v{version} is being baked{reason}")),
        Stage::Starting => Look::Wait(format!("v{version} is coming to life{reason}")),
        Stage::Failed => Look::Stuck(format!("v{version} cannot be served{reason}")),
    }
}

fn told(shares: &[Share]) -> String {
    if shares.is_empty() {
        return "nobody's".to_owned();
    }
    shares.iter().map(|share| format!("v{} {} %", share.version, share.percent)).collect::<Vec<_>>().join(", ")
}

/// Finds the gateway and classifies pictures that were in no upload.
///
/// # Errors
/// If there is no way, another version answers, or too many pictures are taken for something else
pub async fn predict<'a>(run: &'a Run, url: &str, version: u32) -> Result<(Gateway<'a>, Held)> {
    let gateway = Gateway::find(run, url).await?;
    answers_alone(run, &gateway, version).await?;
    let mut right = 0;
    let mut seen = vec![];
    for (label, picture) in dataset::unseen(ASKED_PER_LABEL) {
        let mut prediction = gateway.predict(picture.clone()).await;
        if let Err(why) = &prediction {
            // How well it classifies is looked at here; how reliably it answers, by the burst.
            run.teller.tell(&format!("  note: a picture was answered with {why}, and is asked about once more"));
            prediction = gateway.predict(picture).await;
        }
        let prediction =
            prediction.map_err(|why| Failure::new(format!("a picture of {label} was answered with {why}")))?;
        let (told, confidence) = (prediction.prediction.unwrap_or_default(), prediction.confidence.unwrap_or(0.0));
        let is_an_answer = LABELS.contains(&told.as_str()) && confidence > 0.0 && confidence <= 1.0;
        if !is_an_answer {
            let says =
                format!("a picture of {label} is \"{told}\" with confidence {confidence}; expected one of {LABELS:?}");
            return Err(Failure::new(says));
        }
        right += usize::from(told == label);
        if told != label {
            seen.push(format!("a picture of {label} was taken for {told}, with confidence {confidence}"));
        }
    }
    let n = ASKED_PER_LABEL * LABELS.len();
    let says = format!("{right} of {n} pictures were classified rightly by v{version}");
    if right < LEAST_RIGHT {
        return Err(Failure::new(format!("{says}; expected {LEAST_RIGHT} at least")).seen(seen));
    }
    let says = format!("{says}, through {} with Host {}", gateway.via(), gateway.host());
    Ok((gateway, Held::from(says).figure("accuracy_ratio", right as f64 / n as f64)))
}

/// Gives the second version a part, and counts who answers.
///
/// # Errors
/// If the parts are others than those asked for
pub async fn canary(run: &Run, web: &Web<'_>, gateway: &Gateway<'_>, old: u32, new: u32) -> Result<((), Held)> {
    publish(run, web, new, CANARY, &[(old, 100 - CANARY), (new, CANARY)]).await?;
    // What is counted begins after the gateway has heard of it, and is not chosen by what it shows.
    until(&run.teller, &format!("v{new} to answer"), run.options.patience.answer, async || {
        let counted = match count(gateway, 10).await {
            Ok(counted) => counted,
            Err(failure) => return Ok(Look::Wait(failure.says)),
        };
        let others = || format!("answers came from {}", listed(&counted));
        Ok(if counted.contains_key(&new) { Look::Done(()) } else { Look::Wait(others()) })
    })
    .await?;
    let n = run.options.split_requests;
    let counted = count(gateway, n).await?;
    if let Some(other) = counted.keys().find(|version| ![old, new].contains(version)) {
        return Err(Failure::new(format!("v{other} answered, which has no part: {}", listed(&counted))));
    }
    let hits = counted.get(&new).copied().unwrap_or(0);
    let (least, most) = accepted(n, f64::from(CANARY) / 100.0, FALSE_ALARMS).unwrap_or_default();
    let probability = binomial_two_sided(hits, n, f64::from(CANARY) / 100.0);
    let share = f64::from(hits) / f64::from(n);
    let says = format!(
        "v{new} answered {hits} of {n} requests, {:.1} %; of {CANARY} %, {least} to {most} are taken, which is wrong in \
         one case of a million",
        100.0 * share
    );
    if probability < FALSE_ALARMS {
        return Err(Failure::new(format!("{says}; p = {probability:.1e}")));
    }
    Ok(((), Held::from(says).figure("canary_ratio", share).figure("p_value", probability)))
}

/// Gives a version all requests: promotes it, or rolls back to it.
///
/// # Errors
/// If another one still answers
pub async fn give_all(run: &Run, web: &Web<'_>, gateway: &Gateway<'_>, version: u32) -> Result<((), Held)> {
    publish(run, web, version, 100, &[(version, 100)]).await?;
    answers_alone(run, gateway, version).await?;
    Ok(((), format!("{ANSWERS} of {ANSWERS} answers came from v{version}").into()))
}

/// Waits until the gateway has heard of it, then counts.
async fn answers_alone(run: &Run, gateway: &Gateway<'_>, version: u32) -> Result<()> {
    until(&run.teller, &format!("v{version} to answer alone"), run.options.patience.answer, async || {
        let counted = match count(gateway, 10).await {
            Ok(counted) => counted,
            Err(failure) => return Ok(Look::Wait(failure.says)),
        };
        let alone = counted.keys().all(|answered| *answered == version);
        Ok(if alone { Look::Done(()) } else { Look::Wait(format!("answers came from {}", listed(&counted))) })
    })
    .await?;
    let counted = count(gateway, ANSWERS).await?;
    if counted.keys().any(|answered| *answered != version) {
        return Err(Failure::new(format!(
            "v{version} has all requests, and yet of {ANSWERS} answers came from {}",
            listed(&counted)
        )));
    }
    Ok(())
}

/// How many of `n` requests each version answers.
async fn count(gateway: &Gateway<'_>, n: u32) -> Result<BTreeMap<u32, u32>> {
    let answers = stream::iter(0..n).map(|_| gateway.version()).buffer_unordered(AT_ONCE);
    let answers: Vec<Result<u32, String>> = answers.collect().await;
    let mut counted = BTreeMap::new();
    let mut failed = BTreeMap::<String, u32>::new();
    for answer in answers {
        match answer {
            Ok(version) => *counted.entry(version).or_default() += 1,
            Err(why) => *failed.entry(why).or_default() += 1,
        }
    }
    if failed.is_empty() {
        return Ok(counted);
    }
    let told = failed.iter().map(|(why, times)| format!("{times} × {why}")).collect::<Vec<_>>().join("; ");
    Err(Failure::new(format!("of {n} requests to {}, these were not answered: {told}", gateway.host())))
}

fn listed(counted: &BTreeMap<u32, u32>) -> String {
    counted.iter().map(|(version, times)| format!("v{version} ({times})")).collect::<Vec<_>>().join(", ")
}
