import pg from "pg";
import { INTO, ROWS, TRUNCATE, changed, place, run } from "./steps.mjs";

// A date as it is stored.
pg.types.setTypeParser(1082, (text) => text);
const client = new pg.Client(place);
await client.connect();
const rows = async (text, values) => (await client.query(text, values)).rows;
const insert = "INSERT INTO customer (login, email, born) VALUES ($1, $2, $3)";
const all = () => rows("SELECT login, email, born, visits FROM customer ORDER BY login");

async function clean() {
  await client.query("DELETE FROM purchase");
  await client.query("DELETE FROM customer");
  for (const row of ROWS) await client.query(insert, Object.values(row));
}

async function rolledBack() {
  await client.query("BEGIN");
  await client.query("UPDATE customer SET email = 'gone@example.org'");
  await client.query("ROLLBACK");
  return all();
}

const given = ["ada", "new@example.org", null];
await run({
  insert: async () => (await rows(`${insert} RETURNING login, email`, ["grace", "grace@example.org", "1906-12-09"])),
  insert_many: async () => {
    await client.query(`${insert}, ($4, $5, $6)`, ["b", null, null, "c", "c@example.org", "2000-02-29"]);
    return all();
  },
  select: () => all(),
  star: () => rows(changed ? "SELECT id, login, email, born, visits FROM customer" : "SELECT * FROM customer").then(([found]) => Object.keys(found)),
  by_value: () => rows("SELECT login FROM customer WHERE email = $1", ["ada@example.org"]),
  by_part: () => rows("SELECT login FROM customer WHERE email LIKE $1", ["ada%"]),
  order: () => rows("SELECT email FROM customer ORDER BY email DESC"),
  update: async () => {
    const done = await client.query("UPDATE customer SET email = $1 WHERE login = $2", ["x@example.org", "ada"]);
    return [done.rowCount, await all()];
  },
  delete: async () => (await client.query("DELETE FROM customer WHERE email = $1", ["ada@example.org"])).rowCount,
  prepared: async () => {
    const query = { name: "find", text: "SELECT email FROM customer WHERE login = $1" };
    return [await rows({ ...query, values: ["ada"] }), await rows({ ...query, values: ["alan"] })];
  },
  lock: () => rows("SELECT email FROM customer WHERE login = $1 FOR UPDATE", ["ada"]),
  roll_back: rolledBack,
  duplicate: () => client.query(insert, Object.values(ROWS[0])),
  ignore: async () => [(await client.query(`${insert} ON CONFLICT DO NOTHING`, given)).rowCount, await all()],
  upsert: async () => {
    const upsert = insert.replace("customer", `${INTO} AS customer`);
    await client.query(`${upsert} ON CONFLICT (login) DO UPDATE SET email = excluded.email`, given);
    return all();
  },
  group: () => rows(
    "SELECT c.login, c.email, count(p.id) FROM customer c LEFT JOIN purchase p ON p.customer_id = c.id" +
      ` GROUP BY c.id${changed ? ", c.login, c.email" : ""} ORDER BY 1`,
  ),
  truncate: async () => {
    await client.query(TRUNCATE);
    return all();
  },
}, clean, () => client.end());
