//! How the web service is asked what it sees.

use super::*;

/// How often the web service is asked what it sees, and what is found of its functions.
async fn asked_while(server: &Server, mut answer: impl FnMut(u32) -> Diagnosis + Send + 'static) -> (usize, Outcome) {
    let mut n = 0;
    server.on(DIAGNOSIS, move |_, _| {
        n += 1;
        Some(Json(answer(n)).into_response())
    });
    let findings = examine(server).await;
    let asked = server.requests().iter().filter(|request| request.ends_with(DIAGNOSIS)).count();
    let calls = findings.iter().filter(|finding| finding.check == "function URLs").map(|finding| finding.outcome);
    (asked, calls.max_by_key(|outcome| *outcome == Outcome::Failed).unwrap())
}

#[tokio::test]
async fn a_function_that_bakes_before_it_answers_is_waited_for_and_one_that_refuses_is_not() {
    let with = |milliseconds: f64, problem: Option<&str>| {
        let mut told = diagnosis();
        (told.functions[1].milliseconds, told.functions[1].problem) = (milliseconds, problem.map(str::to_owned));
        told
    };
    let wakes = move |n| if n < 3 { with(25_000.0, Some("timed out")) } else { with(4_000.0, None) };
    assert_eq!(asked_while(&well().await, wakes).await, (3, Outcome::Ok));
    let never = move |_| with(25_000.0, Some("timed out"));
    assert_eq!(asked_while(&well().await, never).await, (4, Outcome::Failed));
    let refuses = move |_| with(3.0, Some("connection refused"));
    assert_eq!(asked_while(&well().await, refuses).await, (1, Outcome::Failed));
}

#[tokio::test]
async fn a_web_that_lives_under_other_names_than_the_api_server_is_asked_by_one_that_it_knows() {
    let server = well().await;
    server.on(DIAGNOSIS, |_, asked| {
        let body = json!({"error": {"code": "forbidden", "message": "this service does not live at that name"}});
        (asked.host != "localhost").then(|| (StatusCode::FORBIDDEN, Json(body)).into_response())
    });
    for finding in examine(&server).await {
        assert_eq!(finding.outcome, Outcome::Ok, "{finding:?}");
    }
}
