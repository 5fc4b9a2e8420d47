//! `tidemill snapshot`: looks into snapshot storage where it lies, without the service that writes it and without a
//! configuration. Nothing is changed there; what is being read may be collected meanwhile, and is then an error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};
use tidemill_bootstrap_store::{
    Checked, LogSegment, Manifest, Problem, Store, TableKey, TablePhase, TableState, check_table,
    export_table, limits, read_segment,
};
use tidemill_event::calendar::date_of;
use tidemill_event::{Remedy, Window, chain};
use tidemill_world::objects;

use crate::Failure;

/// What `snapshot` takes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The tables of a version, and how each stands.
    Ls(Chosen),
    /// Everything that a version says, or one of its tables.
    Show {
        /// Which version.
        #[command(flatten)]
        chosen: Chosen,
        /// The table, as `database.table`.
        table: Option<String>,
    },
    /// Reads every object of a version: checksums, order of keys, counts, ranges. Fails where something is wrong.
    Verify(Chosen),
    /// Writes a table as it was at a version, everything applied, into plain Parquet files on this machine.
    Export {
        /// Which version.
        #[command(flatten)]
        chosen: Chosen,
        /// The table, as `database.table`.
        table: String,
        /// A directory that is made, or the name of one file that ends with `.parquet`.
        #[arg(long, value_name = "PATH")]
        to: PathBuf,
    },
}

/// A version of a source's snapshot storage, and how to print.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// Where it lies: the store's URL or directory, and the source's name behind it, as in `s3://lake/cdc/shop`.
    store: String,
    /// Which of the versions that are kept; the newest unless given.
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A version with the states of its tables.
struct Version {
    manifest: Arc<Manifest>,
    tables: Vec<Arc<TableState>>,
}

/// Does it.
pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Ls(chosen) => list(&chosen).await?,
        Command::Show { chosen, table } => show(&chosen, table.as_deref()).await?,
        Command::Verify(chosen) if !verify(&chosen).await? => return Ok(ExitCode::FAILURE),
        Command::Verify(_) => {}
        Command::Export { chosen, table, to } => export(&chosen, &table, &to).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The store of `URL/SOURCE`. Nothing is made where there is nothing.
fn open(place: &str) -> Result<Store, Failure> {
    let url = match place.contains("://") {
        true => place.trim_end_matches('/').to_owned(),
        false => objects::directory_url(Path::new(place))?.trim_end_matches('/').to_owned(),
    };
    let (root, source) = url.rsplit_once('/').expect("a URL has a slash");
    // One with escapes is left to whoever opens it.
    let path = root.strip_prefix("file://").filter(|path| !path.contains('%'));
    if source.is_empty() || path.is_some_and(|path| !Path::new(path).is_dir()) {
        return Err(nothing_there(place).into());
    }
    Ok(Store::new(objects::open(root)?, source).with_url(root))
}

fn nothing_there(place: &str) -> String {
    format!(
        "there is no snapshot storage in `{place}`; write the `store` of [bootstrap.NAME] and the source's name behind it, as \
         in s3://lake/cdc/shop"
    )
}

async fn version(store: &Store, chosen: &Chosen) -> Result<Version, Failure> {
    let newest = store.newest().await?.ok_or_else(|| nothing_there(&chosen.store))?;
    let manifest = match chosen.version {
        None => newest,
        Some(number) => match store.manifest(number).await? {
            Some(manifest) => manifest,
            None => {
                let kept = store.manifests().await?;
                let kept = kept.first().copied().unwrap_or(newest.number);
                return Err(
                    format!("version {number} is not there; kept are {kept} to {}", newest.number).into()
                );
            }
        },
    };
    let mut tables = Vec::new();
    for table in manifest.tables.values() {
        tables.push(store.table(table).await?);
    }
    Ok(Version { manifest, tables })
}

async fn list(chosen: &Chosen) -> Result<(), Failure> {
    let Version { manifest, tables } = version(&open(&chosen.store)?, chosen).await?;
    if chosen.json {
        let tables: Vec<Value> = tables.iter().map(|table| summary(table)).collect();
        println!("{}", json!({ "version": about(&manifest), "tables": tables }));
        return Ok(());
    }
    let Manifest { number, source, applied, .. } = &*manifest;
    println!("{source}, version {number}, at {} ({})", applied.position, utc(applied.time_us));
    println!("{:<32} {:<8} {:>12} {:>9} {:>5}  published", "table", "phase", "rows", "size", "runs");
    for table in tables {
        let rows = table.base.iter().flat_map(|base| &base.files).map(|file| file.rows).sum::<u64>();
        let published = table.base.as_ref().and_then(|base| base.path.as_deref()).unwrap_or("not yet");
        let (name, phase, runs) = (table.name.to_string(), phase(&table), table.runs.len());
        println!("{name:<32} {phase:<8} {rows:>12} {:>9} {runs:>5}  {published}", size(bytes(&table)));
    }
    Ok(())
}

async fn show(chosen: &Chosen, table: Option<&str>) -> Result<(), Failure> {
    let found = version(&open(&chosen.store)?, chosen).await?;
    let value = match table {
        None => about(&found.manifest),
        Some(name) => details(find(&found, name)?),
    };
    if chosen.json {
        println!("{value}");
        return Ok(());
    }
    for (field, value) in value.as_object().expect("it was made as one") {
        match value {
            Value::Array(all) => {
                println!("{field}");
                all.iter().for_each(|one| println!("    {}", text(one)));
            }
            one => println!("{field:<14} {}", text(one)),
        }
    }
    Ok(())
}

/// Whether all is well.
async fn verify(chosen: &Chosen) -> Result<bool, Failure> {
    let store = open(&chosen.store)?;
    let Version { manifest, tables } = version(&store, chosen).await?;
    let mut well = true;
    for table in &tables {
        let checked = check_table(&store, table).await?;
        well &= checked.problems.is_empty();
        report(&table.name.to_string(), &checked, chosen.json);
    }
    let log = check_log(&store, &manifest.log).await?;
    well &= log.problems.is_empty();
    report("log", &log, chosen.json);
    Ok(well)
}

async fn check_log(store: &Store, log: &[LogSegment]) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    for segment in log {
        let (object, bytes) = (segment.object.path.clone(), segment.object.bytes);
        checked.objects += 1;
        checked.bytes += bytes;
        match read_segment(store, segment).await {
            Ok(windows) => checked.rows += windows.iter().map(Window::row_count).sum::<usize>() as u64,
            Err(error) if error.remedy() == Remedy::Retry => return Err(error.into()),
            Err(error) => checked.problems.push(Problem { object, what: chain(&error).to_string() }),
        }
    }
    Ok(checked)
}

fn report(name: &str, checked: &Checked, as_json: bool) {
    let Checked { objects, bytes, rows, problems } = checked;
    if as_json {
        let problem = |p: &Problem| json!({ "object": p.object, "what": p.what });
        let problems: Vec<Value> = problems.iter().map(problem).collect();
        println!(
            "{}",
            json!({ "checked": name, "objects": objects, "bytes": bytes, "rows": rows, "problems": problems })
        );
        return;
    }
    let verdict = if problems.is_empty() { "well" } else { "NOT WELL" };
    println!("{name:<32} {verdict}: {objects} objects, {}, {rows} rows", size(*bytes));
    for Problem { object, what } in problems {
        println!("    {object}: {what}");
    }
}

/// Everything is written beside the target and then takes its name, so that half of it is never there.
async fn export(chosen: &Chosen, table: &str, to: &Path) -> Result<(), Failure> {
    let store = open(&chosen.store)?;
    let version = version(&store, chosen).await?;
    let table = find(&version, table)?;
    let applied = version.manifest.applied.position;
    if phase(table) != "ready" {
        return Err(
            format!("{} is {} and cannot be exported as of {applied}", table.name, phase(table)).into()
        );
    }
    if to.exists() {
        return Err(format!("{} is there already; remove it, or choose another name", to.display()).into());
    }
    let beside = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix("tidemill-export-").tempdir_in(beside)?;
    let is_file = to.extension().is_some_and(|extension| extension == "parquet");
    let file_bytes = if is_file { u64::MAX } else { limits::FILE_BYTES };
    let target = Store::new(objects::open(&objects::directory_url(made.path())?)?, "rows");
    let (files, rows) = export_table(&store, table, applied, &target, file_bytes).await?;
    let folder = made.path().join("rows");
    std::fs::rename(if is_file { folder.join(&files[0]) } else { folder }, to)?;
    if chosen.json {
        println!(
            "{}",
            json!({ "table": table.name.to_string(), "at": applied.to_string(), "rows": rows, "files": files })
        );
    } else {
        println!("{}: {rows} rows as of {applied} in {}", table.name, to.display());
    }
    Ok(())
}

fn find<'a>(version: &'a Version, name: &str) -> Result<&'a Arc<TableState>, Failure> {
    let known = || version.tables.iter().map(|table| table.name.to_string()).collect::<Vec<_>>().join(", ");
    let found = version.tables.iter().find(|table| table.name.to_string() == name);
    Ok(found.ok_or_else(|| format!("there is no table `{name}`; there are: {}", known()))?)
}

/// What a version says, its tables left out.
fn about(manifest: &Manifest) -> Value {
    json!({
        "source": manifest.source,
        "version": manifest.number,
        "written": utc(manifest.time_us),
        "writer": manifest.writer,
        "epoch": manifest.epoch,
        "applied": manifest.applied.position.to_string(),
        "applied_time": utc(manifest.applied.time_us),
        "gtid_set": manifest.applied.executed,
        "logged": manifest.logged.position.to_string(),
        "log_segments": manifest.log.len(),
        "timelines": manifest.timelines,
        "tables": manifest.tables.keys().collect::<Vec<_>>(),
        "dropped": manifest.dropped.iter().map(|d| d.table.to_string()).collect::<Vec<_>>(),
    })
}

fn summary(table: &TableState) -> Value {
    let base = table.base.as_ref();
    json!({
        "table": table.name.to_string(),
        "phase": phase(table),
        "rows": base.iter().flat_map(|base| &base.files).map(|file| file.rows).sum::<u64>(),
        "bytes": bytes(table),
        "runs": table.runs.len(),
        "changes": table.runs.iter().map(|run| run.rows).sum::<u64>(),
        "published": base.and_then(|base| base.path.clone()),
        "published_at": base.filter(|base| base.path.is_some()).map(|base| base.at.to_string()),
    })
}

fn details(table: &TableState) -> Value {
    let mut all = summary(table);
    let name = |field: &u32| {
        let column = table.schema.columns.iter().find(|column| column.field == *field);
        column.map_or_else(|| field.to_string(), |column| column.name.clone())
    };
    let key = match &table.key {
        TableKey::Columns { fields } => fields.iter().map(name).collect(),
        TableKey::WholeRow => vec![],
    };
    let columns = table.schema.columns.iter().map(|c| {
        let null = if c.nullable { "" } else { " not null" };
        format!("{:<24} {}{null}, stored as {}", c.name, c.source_type, String::from(c.data_type.clone()))
    });
    let files = table.base.iter().flat_map(|base| &base.files);
    let files = files.map(|f| format!("{} ({} rows, {})", f.object.path, f.rows, size(f.object.bytes)));
    let runs = table.runs.iter().map(|r| {
        let place = format!("{} to {}", r.after, r.upto);
        format!("{} ({} rows, {} of them gone, {place})", r.object.path, r.rows, r.deletes)
    });
    all["key"] = json!(key);
    all["policy"] = json!(table.policy);
    all["deltas_since"] = json!(table.deltas_since.to_string());
    all["columns"] = columns.collect();
    all["files"] = files.collect();
    all["run_files"] = runs.collect();
    all["older"] = json!(table.older);
    all
}

fn phase(table: &TableState) -> &'static str {
    match &table.phase {
        TablePhase::Cloning(_) => "cloning",
        TablePhase::Ready => "ready",
        TablePhase::Stale { .. } => "stale",
    }
}

fn bytes(table: &TableState) -> u64 {
    let base = table.base.iter().flat_map(|base| &base.files).map(|file| file.object.bytes).sum::<u64>();
    base + table.runs.iter().map(|run| run.object.bytes).sum::<u64>()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        value => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

fn utc(time_us: i64) -> String {
    if time_us == 0 {
        return "no transaction yet".to_owned();
    }
    let seconds = time_us.div_euclid(1_000_000);
    let (year, month, day) = date_of(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_for_people() {
        assert_eq!(utc(1_791_000_000_000_000), "2026-10-03T04:00:00Z");
        assert_eq!(utc(0), "no transaction yet");
        assert_eq!([size(12), size(1536), size(5 << 30)], ["12 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn a_place_without_a_store_is_refused_and_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("nowhere/shop").display().to_string();
        let error = open(&place).expect_err("it is not there").to_string();
        assert!(error.contains("there is no snapshot storage in"), "{error}");
        assert!(!folder.path().join("nowhere").exists());
    }
}
