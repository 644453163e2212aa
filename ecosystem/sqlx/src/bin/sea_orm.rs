//! sea-orm with its migrations, in one program with cutover; and what `fresh` of its migrations does.

use daemon::{BALANCES, CHANGE, Daemon, FIRST, WRITTEN};
use sea_orm::sqlx::sqlite::SqliteSynchronous;
use sea_orm::{ActiveModelTrait, ConnectOptions, Database, EntityTrait, PaginatorTrait, Set};
use sea_orm_migration::prelude::*;

mod balance {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts_balances")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: Vec<u8>,
        pub value: Vec<u8>,
        pub note: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(DeriveMigrationName)]
struct Audit;

#[async_trait::async_trait]
impl MigrationTrait for Audit {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(CHANGE).await.map(drop)
    }
}

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Audit)]
    }
}

#[tokio::main]
async fn main() {
    let daemon = Daemon::on_fjall();
    drop(daemon.moved());
    // `?mode=rwc`, which its examples have, would create a file that is not there.
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rw", daemon.target_text()));
    options.map_sqlx_sqlite_opts(|options| options.synchronous(SqliteSynchronous::Extra));
    let pool = Database::connect(options).await.expect("a pool");
    Migrator::up(&pool, None).await.expect("migrates");

    let count = balance::Entity::find().count(&pool).await.expect("counts");
    assert_eq!(count, BALANCES.unsigned_abs());
    let first = balance::Entity::find_by_id(FIRST.0.to_vec()).one(&pool).await.expect("reads");
    assert_eq!(first.map(|balance| balance.value), Some(FIRST.1.to_vec()));
    let new = balance::ActiveModel {
        key: Set(WRITTEN.0.to_vec()),
        value: Set(WRITTEN.1.to_vec()),
        note: Set(Some("new".to_owned())),
    };
    new.insert(&pool).await.expect("inserts");
    daemon.still_opens();

    // It drops every table, cutover's record with them. cutover then says so, and gives no store back.
    Migrator::fresh(&pool).await.expect_err("the migrated table, which it changes, is gone");
    daemon.lost_its_record();
    daemon::says("sea-orm", rusqlite::version());
}
