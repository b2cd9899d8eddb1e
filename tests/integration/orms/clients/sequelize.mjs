import { DataTypes, Op, Sequelize, fn, col } from "sequelize";
import { INTO, ROWS, TRUNCATE, changed, place, run } from "./steps.mjs";

const db = new Sequelize(place.database, place.user, "", {
  host: place.host, port: place.port, dialect: "postgres", logging: false, define: { timestamps: false },
});
const fields = {
  id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true },
  login: { type: DataTypes.TEXT, allowNull: false, unique: true },
  email: DataTypes.TEXT,
  born: DataTypes.DATEONLY,
  visits: { type: DataTypes.INTEGER, defaultValue: 0 },
};
const Customer = db.define("Customer", fields, { tableName: "customer" });
const Purchase = db.define("Purchase", { id: fields.id, total: DataTypes.DECIMAL }, { tableName: "purchase" });
Customer.hasMany(Purchase, { foreignKey: "customer_id" });
const Upserted = db.define("Upserted", fields, { tableName: INTO });
const attributes = ["login", "email", "born", "visits"];
const all = () => Customer.findAll({ attributes, order: ["login"], raw: true });

async function clean() {
  await Purchase.destroy({ where: {} });
  await Customer.destroy({ where: {} });
  await Customer.bulkCreate(ROWS);
}

const given = { login: "ada", email: "new@example.org" };
await run({
  insert: async () => {
    const made = await Customer.create({ login: "grace", email: "grace@example.org" });
    return [made.id > 0, made.email];
  },
  insert_many: async () => {
    await Customer.bulkCreate([{ login: "b" }, { login: "c", email: "c@example.org", born: "2000-02-29" }]);
    return all();
  },
  select: all,
  star: async () => Object.keys(await Customer.findOne({ where: { login: "ada" }, raw: true })),
  by_value: () => Customer.findAll({ attributes: ["login"], where: { email: "ada@example.org" }, raw: true }),
  by_part: () => Customer.findAll({ attributes: ["login"], where: { email: { [Op.iLike]: "ADA%" } }, raw: true }),
  order: () => Customer.findAll({ attributes: ["email"], order: [["email", "DESC"]], raw: true }),
  update: async () => {
    const [one] = await Customer.findAll({ where: { login: "ada" } });
    await one.update({ email: "x@example.org", born: null });
    return all();
  },
  delete: () => Customer.destroy({ where: { email: "ada@example.org" } }),
  increment: async () => {
    await Customer.increment("visits", { where: { login: "ada" } });
    return all();
  },
  find_or_create: async () => {
    const [found, made] = await Customer.findOrCreate({ where: { login: "new" }, defaults: { email: "n@example.org" } });
    return [found.email, made];
  },
  include: () => Customer.findAll({ attributes, include: Purchase, order: ["login"] }),
  lock: () => db.transaction((transaction) =>
    Customer.findAll({ attributes: ["email"], where: { login: "ada" }, lock: true, transaction, raw: true })),
  roll_back: async () => {
    await db.transaction(async (transaction) => {
      await Customer.update({ email: "gone@example.org" }, { where: {}, transaction });
      throw new Error("no");
    }).catch(() => null);
    return all();
  },
  duplicate: () => Customer.create(ROWS[0]),
  ignore: async () => {
    await Customer.bulkCreate([given], { ignoreDuplicates: true });
    return all();
  },
  upsert: async () => {
    await Upserted.upsert(given);
    return all();
  },
  bulk_upsert: async () => {
    await Upserted.bulkCreate([given], { updateOnDuplicate: ["email"] });
    return all();
  },
  group: () => Customer.findAll({
    attributes: ["login", "email", [fn("count", col("Purchases.id")), "n"]],
    include: [{ model: Purchase, attributes: [] }], group: changed ? ["Customer.id", "login", "email"] : ["Customer.id"], order: ["login"], raw: true,
  }),
  truncate: async () => {
    await (changed ? db.query(TRUNCATE) : Customer.destroy({ truncate: true, cascade: true }));
    return all();
  },
}, clean, () => db.close());
