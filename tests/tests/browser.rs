//! What a person does: upload an archive, press Train, watch the curves, look behind the confusion matrix, compare two
//! runs, and classify three pictures, in a real browser.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use serde_json::{Value, json};
use tests::{
    house::{House, PATIENCE},
    pictures::{self, LABELS},
};

/// Debian's ChromeDriver on a port of its own choosing, killed at the end.
struct Driver {
    process: Child,
    url: String,
}

impl Driver {
    fn start() -> Self {
        let program = std::env::var_os("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
        let started = Command::new(&program).arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|e| {
            panic!("{}: {e}; install Debian's package chromium-driver or set CHROMEDRIVER", program.display())
        });
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
        });
        Self { process, url: format!("http://127.0.0.1:{}", port.expect("ChromeDriver names its port")) }
    }

    /// A browser of a desk's size.
    async fn browser(&self) -> Client {
        self.browser_with(json!({"args": ["--window-size=1280,900"]})).await
    }

    /// A browser that takes itself for one on a phone.
    async fn phone(&self) -> Client {
        let screen = json!({"width": 390, "height": 844, "pixelRatio": 2.0, "touch": true, "mobile": true});
        self.browser_with(json!({"args": [], "mobileEmulation": {"deviceMetrics": screen}})).await
    }

    async fn browser_with(&self, mut options: serde_json::Value) -> Client {
        // Root needs --no-sandbox; the rest keeps Chromium from calling home. None of it is about what is tested.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ];
        options["args"].as_array_mut().unwrap().extend(arguments.map(Into::into));
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.url)
            .await
            .unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A page as a person meets it: everything is waited for.
struct Page<'a>(&'a Client);

impl Page<'_> {
    async fn element(&self, css: &str) -> Element {
        let found = self.0.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.text("main").await),
        }
    }

    async fn click(&self, css: &str) {
        self.element(css).await.click().await.unwrap();
    }

    async fn text(&self, css: &str) -> String {
        match self.0.find(Locator::Css(css)).await {
            Ok(element) => element.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    /// Trains a small network for exactly so many epochs on the dataset whose page this is, publishes it under this name,
    /// and returns the run's id.
    async fn train(&self, model: &str, epochs: &str) -> String {
        self.click("section[aria-labelledby=train] summary").await;
        let family = self.element("section[aria-labelledby=train] [name=family]").await;
        family.select_by_value("cnn").await.unwrap();
        assert!(!self.element("[name=hidden_units]").await.is_displayed().await.unwrap(), "no field of another family");
        let settings = [("epochs", epochs), ("patience", "0"), ("batch_size", "8"), ("input_size", "32")];
        for (name, value) in [("model", model)].into_iter().chain(settings) {
            let field = self.element(&format!("section[aria-labelledby=train] [name={name}]")).await;
            field.clear().await.unwrap();
            field.send_keys(value).await.unwrap();
        }
        self.click("section[aria-labelledby=train] button[type=submit]").await;
        self.arrive("/runs/").await;
        self.0.current_url().await.unwrap().path().trim_start_matches("/runs/").to_owned()
    }

    /// By how many pixels the page is wider than its window.
    async fn unreachable_width(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.0.execute(script, vec![]).await.unwrap().as_i64().unwrap()
    }

    /// The last epoch that the live accuracy chart tells of, once it tells of one after `seen`.
    async fn live_epoch(&self, seen: u32) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.0.find(Locator::Css("#live #accuracy-desc")).await;
            let told = match told {
                Ok(description) => description.prop("textContent").await.ok().flatten().unwrap_or_default(),
                Err(_) => String::new(),
            };
            let epoch =
                told.strip_prefix("Accuracy after epoch ").and_then(|rest| rest.split(':').next()?.parse().ok());
            if let Some(epoch) = epoch.filter(|epoch| *epoch > seen) {
                return epoch;
            }
            assert!(Instant::now() < deadline, "no epoch after {seen}: {}", self.text("main").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the page's path begins with this.
    async fn arrive(&self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = self.0.current_url().await.unwrap();
            if url.path().starts_with(path) {
                return;
            }
            assert!(Instant::now() < deadline, "still at {url}: {}", self.text("main").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A picture of a class that the network was not trained on, and that the function recognises.
async fn recognised(house: &House, label: &str) -> Vec<u8> {
    for n in 7000..7020 {
        let picture = pictures::png(label, n);
        let request = house.http.post(format!("{}/predict?include_images=false", house.inference));
        let answer = request.header("content-type", "image/png").body(picture.clone()).send().await.unwrap();
        if answer.json::<Value>().await.unwrap()["prediction"] == label {
            return picture;
        }
    }
    panic!("no {label} is recognised")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_trains_and_classifies_in_the_browser() {
    let data = tempfile::tempdir().unwrap();
    let house = House::start(data.path()).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let archive = files.path().join("shapes.zip");
    std::fs::write(&archive, pictures::archive(30, 0)).unwrap();

    let driver = Driver::start();
    let browser = driver.browser().await;
    let page = Page(&browser);
    browser.goto(&house.web).await.unwrap();
    page.click("main a[href='/training_page']").await;
    page.arrive("/training_page").await;
    page.element("input[name=archive]").await.send_keys(archive.to_str().unwrap()).await.unwrap();
    page.click("section[aria-labelledby=by-archive] button[type=submit]").await;

    page.arrive("/datasets/").await;
    let classes = page.element("section[aria-labelledby=classes]").await.text().await.unwrap();
    assert!(LABELS.iter().all(|label| classes.contains(label)), "{classes}");
    page.element(".samples img").await;

    let dataset = browser.current_url().await.unwrap();
    // Long enough for the page to be there while it trains, on a fast machine too.
    let first = page.train("classifier", "150").await;
    page.element("#live progress").await;
    // Marked now, gone if the page were loaded anew: the curves grow without that.
    browser.execute("window.isTheSamePage = true", vec![]).await.unwrap();
    let early = page.live_epoch(0).await;
    page.live_epoch(early).await;
    assert_eq!(browser.execute("return window.isTheSamePage", vec![]).await.unwrap(), json!(true));
    let line = page.element("#live #figure-loss polyline").await.attr("points").await.unwrap().unwrap();
    assert!(line.split(' ').count() > 1, "{line}");
    // The live page turns into the results by itself.
    page.element("#confusion").await;
    let results = page.text("main").await;
    assert!(results.contains("Test accuracy") && results.contains("Calibration"), "{results}");
    assert_eq!(page.unreachable_width().await, 0, "the page does not scroll sideways");

    // A cell of the confusion matrix opens as many pictures as it counts, each of which is there.
    let cell = page.element(".confusion td.hit a").await;
    let count: usize = cell.text().await.unwrap().parse().unwrap();
    cell.click().await.unwrap();
    page.arrive(&format!("/runs/{first}/pictures")).await;
    page.element(".pictures img").await;
    let behind = browser.find_all(Locator::Css(".pictures img")).await.unwrap();
    assert_eq!(behind.len(), count);
    let loaded = "const img = document.querySelector('.pictures img'); await img.decode(); return img.naturalWidth";
    let width =
        browser.execute_async(&format!("(async () => {{ {loaded} }})().then(arguments[0])"), vec![]).await.unwrap();
    assert!(width.as_u64().unwrap() > 0);

    browser.goto(dataset.as_str()).await.unwrap();
    let second = page.train("trial", "3").await;
    page.element("#confusion").await;
    browser.goto(&format!("{}/runs", house.web)).await.unwrap();
    for run in [&second, &first] {
        page.click(&format!("input[name=run][value='{run}']")).await;
    }
    page.click("form[action='/compare'] button").await;
    page.element("#differences").await;
    let compared = page.text(".comparison").await;
    assert!(compared.contains("Epochs") && compared.contains("differs"), "{compared}");
    assert_eq!(
        browser.find_all(Locator::Css("#figure-loss polyline")).await.unwrap().len(),
        2,
        "both curves in one chart"
    );
    page.element("tr.same").await;
    page.click(".only-differences").await;
    assert!(!page.element("tr.same").await.is_displayed().await.unwrap());

    house.wait_for_version(1).await.unwrap();
    browser.goto(&format!("{}/inference_page", house.web)).await.unwrap();
    page.arrive("/inference_page").await;
    let mut chosen = vec![];
    for label in LABELS {
        let path = files.path().join(format!("unseen-{label}.png"));
        std::fs::write(&path, recognised(&house, label).await).unwrap();
        chosen.push(path.to_str().unwrap().to_owned());
    }
    page.element("input[name=pictures]").await.send_keys(&chosen.join("\n")).await.unwrap();
    page.element("#results .answer:nth-child(3)").await;
    let mut labels = vec![];
    for label in browser.find_all(Locator::Css("#results .answer .label")).await.unwrap() {
        labels.push(label.text().await.unwrap());
    }
    assert_eq!(labels.len(), 3, "{labels:?}");
    for (label, expected) in labels.iter().zip(LABELS) {
        assert!(label.starts_with(expected), "{labels:?}");
    }
    let pictures = browser.find_all(Locator::Css("#results .answer img")).await.unwrap();
    assert_eq!(pictures.len(), 3, "each comes back with its picture");

    browser.close().await.unwrap();

    let phone = driver.phone().await;
    fits_a_phone(&phone, &house.web, dataset.path(), [&first, &second]).await;
    phone.close().await.unwrap();
    assert!(house.stop().await.unwrap().success());
}

/// Opens every page on a phone, one of a run that trains too: none scrolls sideways.
async fn fits_a_phone(phone: &Client, web: &str, dataset: &str, [first, second]: [&String; 2]) {
    let page = Page(phone);
    let open = async |path: &str| {
        phone.goto(&format!("{web}{path}")).await.unwrap();
        page.element("main h1").await;
        assert_eq!(page.unreachable_width().await, 0, "{path} does not scroll sideways on a phone");
    };
    for path in [
        "/",
        "/training_page",
        "/inference_page",
        "/runs",
        &format!("/runs/{first}"),
        &format!("/runs/{first}/pictures"),
        &format!("/compare?a={first}&b={second}"),
        "/models",
        "/models/classifier/1",
        "/functions",
        "/disk",
        dataset,
    ] {
        open(path).await;
    }
    let live = page.train("phone", "1000").await;
    page.live_epoch(0).await;
    assert_eq!(page.unreachable_width().await, 0, "a live run does not scroll sideways on a phone");
    page.click(&format!("form[action='/runs/{live}/cancel'] button")).await;
    page.element(&format!("form[action='/runs/{live}/retry']")).await;
}
