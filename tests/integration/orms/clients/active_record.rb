# Runs the operations of Active Record, each from the same two rows on, and prints what each of them gave.

require "active_record"
require "json"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"]
)

# With the changes that docs/orms.md asks for.
CHANGED = ENV.key?("CHANGED")
UPSERT = "INSERT INTO customer_upsert AS customer (login, email) VALUES ($1, $2) ON CONFLICT (login) DO "

class Customer < ActiveRecord::Base
  self.table_name = "customer"
  # A view has no primary key that Active Record would find by itself.
  self.primary_key = "id" if CHANGED
  self.ignored_columns = ["email_search"] if CHANGED
  has_many :purchases
end

class Purchase < ActiveRecord::Base
  self.table_name = "purchase"
  belongs_to :customer
end

NAMES = %i[login email born visits].freeze
NEW = { login: "ada", email: "new@example.org" }.freeze

def all
  Customer.order(:login).pluck(*NAMES)
end

def ada
  Customer.find_by(login: "ada")
end

def upsert(act)
  ActiveRecord::Base.connection.exec_query(UPSERT + act, "upsert", [[nil, "ada"], [nil, "new@example.org"]])
  all
end

# Active Record looks for a unique index of the relation, and a view has none.
def insert_all(rows)
  CHANGED ? Customer.create!(rows) : Customer.insert_all!(rows)
end

def insert_or_not
  Customer.create!(NEW)
rescue ActiveRecord::RecordNotUnique
  nil
end

OPERATIONS = {
  insert: -> { made = Customer.create!(login: "grace", email: "grace@example.org"); [made.id.to_i > 0, made.reload.email] },
  insert_many: -> { Customer.create!([{ login: "b" }, { login: "c", email: "c@example.org", born: "2000-02-29" }]); all },
  insert_all: -> { insert_all([{ login: "b", email: nil }, { login: "c", email: "c@example.org" }]); all },
  select: -> { all },
  star: -> { ada.attributes.keys },
  key: -> { Customer.primary_key },
  find: -> { Customer.find(ada.id).email },
  by_value: -> { Customer.where(email: "ada@example.org").pluck(:login) },
  by_part: -> { Customer.where("email ILIKE ?", "ADA%").pluck(:login) },
  order: -> { Customer.order(email: :desc).pluck(:email) },
  update: -> { ada.update!(email: "x@example.org", born: nil); all },
  update_all: -> { [Customer.where(email: "ada@example.org").update_all(visits: 3), all] },
  delete: -> { ada.destroy!; all },
  delete_all: -> { Customer.where(email: "ada@example.org").delete_all },
  find_or_create: -> { Customer.find_or_create_by!(login: "new") { |one| one.email = "n@example.org" }.email },
  join: -> { Purchase.create!(customer: ada, total: 5); Customer.joins(:purchases).pluck(:email) },
  include: -> { Purchase.create!(customer: ada, total: 5); Customer.includes(:purchases).order(:login).map { |one| [one.email, one.purchases.size] } },
  batches: -> { found = []; Customer.find_each(batch_size: 1) { |one| found << one.email }; found.sort },
  last: -> { Customer.last.login },
  lock: -> { Customer.transaction { ada.lock!.email } },
  roll_back: -> { Customer.transaction { ada.update!(email: "gone@example.org"); raise ActiveRecord::Rollback }; all },
  duplicate: -> { Customer.create!(login: "ada") },
  ignore: -> { CHANGED ? insert_or_not : Customer.insert_all([NEW]); all },
  ignore_target: -> { CHANGED ? upsert("NOTHING") : (Customer.insert_all([NEW], unique_by: :login); all) },
  upsert: -> { CHANGED ? upsert("UPDATE SET email = excluded.email") : (Customer.upsert_all([NEW], unique_by: :login); all) },
  group: -> { Customer.left_joins(:purchases).group(CHANGED ? %w[customer.id login email] : "customer.id").order(:login).pluck(:login, :email, "count(purchase.id)") },
  truncate: -> { ActiveRecord::Base.connection.execute(CHANGED ? "CALL envelope.truncate('customer', \"cascade\" => true)" : "TRUNCATE customer CASCADE"); all },
}.freeze

seen = OPERATIONS.transform_values do |operation|
  Purchase.delete_all
  Customer.delete_all
  ActiveRecord::Base.connection.execute(
    "INSERT INTO customer (login, email, born) VALUES ('ada', 'ada@example.org', '1815-12-10'), ('alan', 'alan@example.org', NULL)"
  )
  { gave: operation.call.as_json }
rescue StandardError => error
  state = error.cause.respond_to?(:result) && error.cause.result ? error.cause.result.error_field(PG::Result::PG_DIAG_SQLSTATE) : nil
  { error: state || error.class.name }
end
puts JSON.generate(seen)
