//! The order and payment flow of an online shop, which `docs/guide/orders.md` explains: `orders NAMESRV [FOLDER [ORDERS]]`.
//!
//! Seven services with a database each, here threads of one program, agree on every order although the broker or this
//! program may be killed at any moment. In the end the books are audited: the exit code is 0 if they balance. Run it again
//! on the same FOLDER to go on where a killed one was.

mod audit;
mod consume_log;
mod customers;
mod database;
mod deduction;
mod followers;
mod goods;
mod messages;
mod order;
mod outbox;
mod payment;
mod service;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringmq_client::{Admin, NameServers, PushConsumer, Remoting, TopicConfig};

use self::audit::Auditor;
use self::customers::Told;
use self::deduction::DeductionService;
use self::order::{Deductions, OrderService};
use self::payment::PaymentService;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: orders NAMESRV [FOLDER [ORDERS]]";

const QUEUES: i32 = 4;
/// Readable and writable.
const PERM: i32 = 6;

/// How long messages may be under way after the last customer has left: a broker that was started again asks about
/// transactions after a minute.
const SETTLED: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Everything that runs.
#[derive(Debug)]
struct Shop {
    orders: OrderService,
    payments: PaymentService,
    deductions: Arc<Deductions>,
    _points: PushConsumer,
    _log: [PushConsumer; 2],
}

impl Shop {
    fn open(folder: &Path, names: &NameServers) -> Result<Shop> {
        let deductions = Arc::new(Deductions {
            stock: DeductionService::start(folder, "stock", names, "stock_group")?,
            coupons: DeductionService::start(folder, "coupons", names, "coupon_group")?,
            balances: DeductionService::start(folder, "balances", names, "balance_group")?,
        });
        Ok(Shop {
            _points: followers::points(folder, names)?,
            _log: followers::log(folder, names)?,
            payments: PaymentService::start(folder, names)?,
            orders: OrderService::start(folder, names, Arc::clone(&deductions))?,
            deductions,
        })
    }
}

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or(USAGE)?)?;
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "example-orders".to_owned()));
    let orders = args.next().map_or(Ok(20), |orders| orders.parse()).map_err(|_| USAGE)?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot create the folder {}: {e}", folder.display()))?;
    create_topics(&names)?;

    let shop = Shop::open(&folder, &names)?;
    // Orders and coupons of one run have other ids than those of the next.
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
    customers::stock_up(&shop, &run, orders)?;
    let told = customers::come(&shop, &run, orders)?;

    let auditor = Auditor::open(&folder)?;
    wait_until_settled(&auditor)?;
    drop(shop);
    let mut wrong = auditor.wrong()?;
    wrong.extend(lies(&auditor, &told)?);
    println!("{}", auditor.figures()?);
    if wrong.is_empty() {
        println!("the books balance");
        return Ok(ExitCode::SUCCESS);
    }
    wrong.iter().for_each(|fault| eprintln!("{fault}"));
    eprintln!("the books do not balance");
    Ok(ExitCode::FAILURE)
}

fn create_topics(names: &NameServers) -> Result<()> {
    let admin = Admin::new(Remoting::default(), names.clone());
    for topic in messages::TOPICS {
        admin.create_topic_in_cluster(None, &TopicConfig::new(topic, QUEUES, QUEUES, PERM))?;
    }
    Ok(())
}

/// Waits until nothing is under way. What does not end in time, the audit names.
fn wait_until_settled(auditor: &Auditor) -> Result<()> {
    let deadline = Instant::now() + SETTLED;
    while let Some(cause) = auditor.unsettled()? {
        if Instant::now() > deadline {
            eprintln!("given up after {SETTLED:?}: {cause}");
            return Ok(());
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Customers who were told something else than what is.
fn lies(auditor: &Auditor, told: &[Told]) -> Result<Vec<String>> {
    let mut lies = Vec::new();
    for (order, answer) in told {
        let status = auditor.status(order)?;
        let expected = if *answer == "PAID" { "DELIVERED" } else { "CANCELLED" };
        if status != expected {
            lies.push(format!("{order} is {status}, and the customer was told {answer}"));
        }
    }
    Ok(lies)
}
