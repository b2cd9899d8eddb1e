import knex from "knex";
import pg from "pg";
import { INTO, ROWS, TRUNCATE, changed, place, run } from "./steps.mjs";

pg.types.setTypeParser(1082, (text) => text);
const db = knex({ client: "pg", connection: place });
const customer = () => db("customer");
const all = () => customer().select("login", "email", "born", "visits").orderBy("login");

async function clean() {
  await db("purchase").del();
  await customer().del();
  await customer().insert(ROWS);
}

const given = { login: "ada", email: "new@example.org" };
await run({
  insert: () => customer().insert({ login: "grace", email: "grace@example.org" }).returning(["login", "email"]),
  insert_many: async () => {
    await db.batchInsert("customer", [{ login: "b" }, { login: "c", email: "c@example.org", born: "2000-02-29" }], 1);
    return all();
  },
  select: all,
  star: async () => Object.keys((await customer().select(changed ? ["id", "login", "email", "born", "visits"] : "*"))[0]),
  by_value: () => customer().where({ email: "ada@example.org" }).select("login"),
  by_part: () => customer().whereILike("email", "ADA%").select("login"),
  order: () => customer().orderBy("email", "desc").select("email"),
  update: async () => [await customer().where({ login: "ada" }).update(given), await all()],
  delete: () => customer().where({ email: "ada@example.org" }).del(),
  lock: () => db.transaction((work) => work("customer").where({ login: "ada" }).forUpdate().select("email")),
  roll_back: async () => {
    await db.transaction(async (work) => {
      await work("customer").update({ email: "gone@example.org" });
      await work.rollback(new Error("no"));
    }).catch(() => null);
    return all();
  },
  duplicate: () => customer().insert(ROWS[0]),
  ignore: async () => {
    await customer().insert(given).onConflict().ignore();
    return all();
  },
  ignore_target: async () => {
    await db(INTO).insert(given).onConflict("login").ignore();
    return all();
  },
  upsert: async () => {
    await db(INTO).insert(given).onConflict("login").merge();
    return all();
  },
  group: () => customer().leftJoin("purchase", "purchase.customer_id", "customer.id")
    .groupBy(changed ? ["customer.id", "login", "email"] : ["customer.id"])
    .select("login", "email").count("purchase.id").orderBy("login"),
  truncate: async () => {
    await db.raw(TRUNCATE);
    return all();
  },
}, clean, () => db.destroy());
