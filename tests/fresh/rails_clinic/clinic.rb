# A small application of Rails: a model with encrypted attributes, routes and a controller. `ruby clinic.rb read` prints
# what all pages and queries answer; the other commands write. CLINIC_RELEASE is "old" while the application encrypts by
# itself, and "new" when it leaves that to the database. That is the only difference, but for the line `encrypts`.

require "logger"
require "json"
require "active_record/railtie"
require "action_controller/railtie"

OLD = ENV.fetch("CLINIC_RELEASE") == "old"
ENV["DATABASE_URL"] = ENV.fetch("CLINIC_DATABASE")

class Clinic < Rails::Application
  config.root = __dir__
  config.load_defaults 7.2
  config.eager_load = false
  config.consider_all_requests_local = false
  config.secret_key_base = "of no use here"
  config.logger = Logger.new(IO::NULL)
  config.hosts.clear
  config.active_record.encryption.primary_key = ENV.fetch("CLINIC_PRIMARY")
  config.active_record.encryption.deterministic_key = ENV.fetch("CLINIC_DETERMINISTIC")
  config.active_record.encryption.key_derivation_salt = ENV.fetch("CLINIC_SALT")
  config.active_record.encryption.support_unencrypted_data = true
  config.active_record.encryption.extend_queries = true
end

Clinic.initialize!
Clinic.routes.draw do
  get "/patients", to: "patients#index"
  get "/patients/by_email", to: "patients#by_email"
  get "/patients/:name", to: "patients#show"
  post "/patients", to: "patients#save"
end

class Patient < ActiveRecord::Base
  # A view has no primary key that Rails could find.
  self.primary_key = "id"
  has_many :visits
  if OLD
    encrypts :ssn
    encrypts :email, deterministic: true
  end
end

class Visit < ActiveRecord::Base
  belongs_to :patient
end

class PatientsController < ActionController::API
  def index
    render json: Patient.order(:id).map { |patient| shown(patient) }
  end

  def show
    patient = Patient.find_by(name: params[:name])
    patient ? render(json: shown(patient)) : head(:not_found)
  end

  def by_email
    patient = Patient.find_by(email: params[:email])
    patient ? render(json: shown(patient)) : head(:not_found)
  end

  def save
    patient = Patient.find_or_initialize_by(name: params[:name])
    patient.update!(params.permit(:ssn, :email))
    head :no_content
  rescue ActiveRecord::RecordNotUnique
    head :conflict
  end

  private

  def shown(patient)
    { name: patient.name, ssn: patient.ssn, email: patient.email, visits: patient.visits.order(:id).pluck(:reason) }
  end
end

def browser
  @browser ||= ActionDispatch::Integration::Session.new(Clinic)
end

def first_day
  ActiveRecord::Schema.verbose = false
  ActiveRecord::Schema.define do
    create_table(:patients) { |t| t.string(:name, null: false); t.text(:ssn); t.text(:email) }
    add_index :patients, :name, unique: true
    add_index :patients, :email, unique: true
    create_table(:visits) { |t| t.references(:patient, foreign_key: true); t.string(:reason) }
  end
  values = { "ada" => "078-05-1120", "alan" => "Zoë 🐎", "empty" => "", "kurt" => nil, "long" => "long text " * 50 }
  values.each do |name, ssn|
    patient = Patient.create!(name: name, ssn: ssn, email: "#{name}@example.org")
    patient.visits.create!(reason: "of #{name}")
  end
  40.times { |number| Patient.create!(name: "p#{number}", ssn: "no #{number}", email: "p#{number}@example.org") }
end

def page(path)
  browser.get(path)
  browser.response.successful? ? JSON.parse(browser.response.body) : browser.response.status
end

def read
  paths = %w[/patients /patients/ada /patients/nobody /patients/by_email?email=alan%40example.org
             /patients/by_email?email=nobody%40example.org]
  emails = %w[ada@example.org p7@example.org nobody@example.org]
  queries = [
    Patient.where(ssn: nil).order(:id).pluck(:name),
    Patient.where(email: emails).order(:id).map(&:ssn),
    Patient.exists?(email: "kurt@example.org"),
    Patient.joins(:visits).where(visits: { reason: "of ada" }).map(&:ssn),
    Patient.includes(:visits).order(:name).limit(3).map { |patient| [patient.ssn, patient.visits.size] },
    Patient.find_each(batch_size: 7).map(&:ssn).compact.sort,
    Patient.order(:id).pluck(:ssn, :email).first(3),
    Patient.group(:email).count.size,
    Patient.find_by(email: "p3@example.org")&.then { |patient| patient.reload.ssn },
  ]
  puts JSON.generate([paths.to_h { |path| [path, page(path)] }, queries])
end

def write(name, ssn, email)
  browser.post("/patients", params: { name: name, ssn: ssn, email: email })
  puts browser.response.status
end

# Saves a whole object whose values were read, and touches an attribute in the clear alone.
def rename(name, other)
  patient = Patient.find_by!(name: name)
  patient.update!(name: other)
  puts patient.ssn
end

# Rails looks for values in the clear, too, where an attribute must have a value, and not where it must not have it.
def others(email)
  puts Patient.where.not(email: email).count
end

# Goes on until its input ends: a process of one release that lives through the change.
def serve
  $stdout.sync = true
  puts "ready"
  while (line = $stdin.gets)
    command, *given = JSON.parse(line)
    send(command, *given)
  end
end

send(*ARGV)
