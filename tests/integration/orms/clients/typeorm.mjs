import "reflect-metadata";
import { DataSource, EntitySchema, ILike } from "typeorm";
import { INTO, ROWS, TRUNCATE, changed, place, run } from "./steps.mjs";

const columns = {
  id: { type: Number, primary: true, generated: true },
  login: { type: "text", unique: true },
  email: { type: "text", nullable: true },
  born: { type: "date", nullable: true },
  visits: { type: Number, default: 0 },
};
const Customer = new EntitySchema({ name: "Customer", tableName: "customer", columns });
const Upserted = new EntitySchema({ name: "Upserted", tableName: INTO, columns });
const source = new DataSource({ type: "postgres", ...place, username: place.user, entities: [Customer, Upserted] });
await source.initialize();
const customers = source.getRepository(Customer);
const select = { login: true, email: true, born: true, visits: true };
const all = () => customers.find({ select, order: { login: "ASC" } });

async function clean() {
  await source.query("DELETE FROM purchase");
  await customers.createQueryBuilder().delete().execute();
  await customers.insert(ROWS);
}

const given = { login: "ada", email: "new@example.org" };
await run({
  insert: async () => {
    const made = await customers.save({ login: "grace", email: "grace@example.org" });
    return [made.id > 0, made.email, made.visits];
  },
  insert_many: async () => {
    await customers.insert([{ login: "b" }, { login: "c", email: "c@example.org", born: "2000-02-29" }]);
    return all();
  },
  select: all,
  star: async () => Object.keys(await customers.findOneBy({ login: "ada" })),
  by_value: async () => (await customers.findBy({ email: "ada@example.org" })).map((one) => one.login),
  by_part: async () => (await customers.findBy({ email: ILike("ADA%") })).map((one) => one.login),
  order: async () => (await customers.find({ order: { email: "DESC" } })).map((one) => one.email),
  update: async () => {
    const one = await customers.findOneBy({ login: "ada" });
    await customers.save({ ...one, email: "x@example.org", born: null });
    return all();
  },
  delete: async () => (await customers.delete({ email: "ada@example.org" })).affected,
  increment: async () => {
    await customers.increment({ login: "ada" }, "visits", 2);
    return all();
  },
  page: () => customers.findAndCount({ select, order: { login: "ASC" }, skip: 1, take: 1 }),
  lock: () => source.transaction((work) => work.getRepository(Customer).find({
    select: { email: true }, where: { login: "ada" }, lock: { mode: "pessimistic_write" },
  })),
  roll_back: async () => {
    await source.transaction(async (work) => {
      await work.getRepository(Customer).update({ login: "ada" }, { email: "gone@example.org" });
      throw new Error("no");
    }).catch(() => null);
    return all();
  },
  duplicate: () => customers.insert(ROWS[0]),
  ignore: async () => {
    await customers.createQueryBuilder().insert().values(given).orIgnore().execute();
    return all();
  },
  upsert: async () => {
    await source.getRepository(Upserted).upsert(given, ["login"]);
    return all();
  },
  group: () => customers.createQueryBuilder("c").leftJoin("purchase", "p", "p.customer_id = c.id")
    .select(["c.login AS login", "c.email AS email", "count(p.id) AS n"]).groupBy(changed ? "c.id, c.login, c.email" : "c.id").orderBy("c.login").getRawMany(),
  truncate: async () => {
    await (changed ? source.query(TRUNCATE) : customers.clear({ cascade: true }));
    return all();
  },
}, clean, () => source.destroy());
