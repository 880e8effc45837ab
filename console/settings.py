"""Django's settings, from `console.environment`."""

import warnings
from pathlib import Path
from typing import Any

import dj_database_url
import django
from csp.constants import NONCE, NONE, SELF
from django.utils.translation import gettext_lazy as _

from console import environment
from console.logs import configuration as logging_configuration

ENVIRONMENT = environment.load()
BASE_DIR = ENVIRONMENT.base_dir
VAR_DIR = ENVIRONMENT.var_dir

DEBUG = ENVIRONMENT.debug
SECRET_KEY = environment.secret(VAR_DIR, "django_secret_key")
environment.secret(VAR_DIR, "master.key", environment.master_key)  # Made on first use.
MASTER_KEY_FILE = VAR_DIR / "secrets" / "master.key"
KEYS = ENVIRONMENT.keys
# What data keys need beside their rows in the database; never in the same backup.
KEY_SHARDS_DIR = VAR_DIR / "keys"
# The audit log's heads are signed with this key under this name; the witness knows both.
AUDIT_LOG_KEY = environment.secret(VAR_DIR, "audit_log.key", environment.master_key)
AUDIT_LOG_NAME = environment.log_name(VAR_DIR)
WITNESS_DIR = VAR_DIR / "witness"
WITNESS_URL = ENVIRONMENT.witness_url
WITNESS_KEY = ENVIRONMENT.witness_key
METRICS_TOKEN = environment.secret(VAR_DIR, "metrics_token")
INFERENCE_TOKEN = environment.inference_token(VAR_DIR)
INFERENCE_URL = ENVIRONMENT.inference_url
# What deployed models may take of this machine, 0 for a share of it; whether their failures can be provoked, for tests.
INFERENCE_MEMORY_MB = ENVIRONMENT.inference_memory_mb
INFERENCE_FAULTS = ENVIRONMENT.inference_faults
# From it the tokens of deployed instances are derived, and the key that upstreams' keys are sealed under.
DEPLOYMENTS_KEY = environment.secret(VAR_DIR, "deployments.key", environment.master_key)
# Where operators put models to import, if anywhere; and whether two people bring a version into production.
MODELS_DIR = ENVIRONMENT.models_dir
MODELS_FOUR_EYES = ENVIRONMENT.models_four_eyes
MODEL_UPLOAD_BYTES = ENVIRONMENT.model_upload_gb * 1_000_000_000
KNOWLEDGE_FILE_BYTES = ENVIRONMENT.knowledge_file_mb * 1_000_000
HUB_URL = ENVIRONMENT.hub_url
PROMETHEUS_URL = ENVIRONMENT.prometheus_url
# From it the secrets of webhooks are derived, one each.
WEBHOOK_KEY = environment.secret(VAR_DIR, "webhook.key", environment.master_key)
WEBHOOK_NETWORKS = ENVIRONMENT.webhook_networks

ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.trusted_origins)
BEHIND_TLS = any(origin.startswith("https://") for origin in CSRF_TRUSTED_ORIGINS)

INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "channels",
    "csp",
    "guardian",
    "django_celery_beat",
    "tenants",
    "tenants.quotas",
    "audit",
    "audit.tree",
    "audit.search",
    "audit.retention",
    "audit.review",
    "audit.cases",
    "audit.readers",
    "inference.registry",
    "inference.deployments",
    "inference.rollouts",
    "inference.routing",
    "knowledge",
    "console",
    "console.chat",
    "console.monitoring",
    "console.sign_in",
    "console.scim",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "console.middleware.security_headers",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "console.sign_in.middleware.remember_session",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # No application's own templates but those of Django's admin: every other page is drawn here.
        "DIRS": [BASE_DIR / "templates", Path(django.__file__).parent / "contrib/admin/templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# From a request's arrival to the end of its answer; then the answer is closed as timed out.
GENERATION_TIME_LIMIT_S = 300

# Two names for one database: everything runs as the plain role; only migrations and isolation run as the owner.
DATABASE_OPTIONS: dict[str, Any] = {"conn_max_age": None, "conn_health_checks": True}
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(ENVIRONMENT.app_database_url or "postgres://", **DATABASE_OPTIONS)
}
# A database that hangs must fail a request, not hold it: what cannot be recorded in time does not happen.
DATABASES["default"].setdefault("OPTIONS", {})["options"] = "-c lock_timeout=5s -c statement_timeout=30s"
if ENVIRONMENT.owner_database_url:
    DATABASES["owner"] = dj_database_url.parse(ENVIRONMENT.owner_database_url, **DATABASE_OPTIONS)
DATABASE_ROUTERS = ["console.routers.OwnerMigrates"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENVIRONMENT.redis_url
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "custos:layer"},
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "custos:cache",
        "OPTIONS": {"serializer": "console.cache.JsonSerializer"},
    }
}

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
ANONYMOUS_USER_NAME = None
GUARDIAN_MONKEY_PATCH_USER = False
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "signin"

# Sign-in: django-allauth's flows with our adapters, pages and addresses (console/sign_in).
ACCOUNT_ADAPTER = "console.sign_in.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Custos] "
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR = "django.contrib.auth.tokens.PasswordResetTokenGenerator"
ACCOUNT_FORMS = {"reset_password": "console.sign_in.forms.ForgottenPasswordForm"}
# Passwords have a brake of their own (console/throttle.py); this one is for the codes of second factors.
ACCOUNT_RATE_LIMITS = {"login": None, "login_failed": "10/15m/key"}
PASSWORD_RESET_TIMEOUT = 3600
MFA_ADAPTER = "console.sign_in.adapters.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "Custos"
MFA_TOTP_TOLERANCE = 1
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}
SOCIALACCOUNT_ADAPTER = "console.sign_in.single_sign_on.SocialAdapter"
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

DEFAULT_FROM_EMAIL = ENVIRONMENT.email_from
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
EMAIL_TIMEOUT = 10
if mail_server := environment.mail_server(ENVIRONMENT.email_url):
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT = mail_server.host, mail_server.port
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = mail_server.user, mail_server.password
    EMAIL_USE_TLS, EMAIL_USE_SSL = mail_server.starttls, mail_server.tls

# Cookies ignore ports, so two installations on one host keep theirs apart by name.
SESSION_COOKIE_NAME = f"custos_session_{ENVIRONMENT.port}"
CSRF_COOKIE_NAME = f"custos_csrf_{ENVIRONMENT.port}"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = False
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = BEHIND_TLS
LANGUAGE_COOKIE_NAME = "custos_language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if BEHIND_TLS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["dompurify", "custos"],
    }
}

# The OpenAI-compatible API and the pages bound their own bodies; this bounds what is read before they see one.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
# Files stay in memory until they are sealed: a spool on disk would be plain text at rest. Larger ones do not arrive.
FILE_UPLOAD_MAX_MEMORY_SIZE = 11 * 1024 * 1024
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "console.formats"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
# Its files are small and read at once; there is nothing that an asynchronous iterator would win.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

LOGGING = logging_configuration(debug=DEBUG)
