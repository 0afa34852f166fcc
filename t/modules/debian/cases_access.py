"""Modules that find out who asks, or decide who may."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

from case import Ask, Case
from lib import backend, server as lib_server


def basic(user, password):
    return {"authorization": "Basic " + base64.b64encode(
        ("%s:%s" % (user, password)).encode()).decode()}


PAGE = "the page\n"
GOOD = Ask("/in/page", headers=basic("joe", "right"), has=PAGE)
WRONG = Ask("/in/page", 401, headers=basic("joe", "wrong"))
NOBODY = Ask("/in/page", 401, fields={"www-authenticate": "^Basic"})
BASIC = [GOOD, WRONG, NOBODY, GOOD]
BASIC_MODULES = " auth_basic authn_core authz_user headers"

LOCATION = """
<Location /in>
    AuthType Basic
    AuthName here
    Require valid-user
    %s
</Location>
"""


def page(server):
    server.write("in/page", PAGE)


def checker(server):
    """A program that knows joe; its input is a name and a password."""
    page(server)
    server.write("check", "#!/bin/sh\nread u; read p\n[ $u$p = joeright ]\n",
                 0o755)


def plain_users(server):
    page(server)
    server.write("users", "joe:right\n")


def htpasswd(server):
    page(server)
    server.write("users", "".join(
        "%s:{SHA}%s\n" % (name, base64.b64encode(
            hashlib.sha1(b"right").digest()).decode())
        for name in ("joe", "www-data")))


def sasl_users(server):
    page(server)
    path = server.path("sasldb2")
    subprocess.run(["saslpasswd2", "-p", "-c", "-f", path, "-u", "here",
                    "joe"], input=b"right", check=True)
    os.chmod(path, 0o644)


# --- PAM: a service of its own, which asks a program ---

@contextlib.contextmanager
def pam_service():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        check = os.path.join(directory, "check")
        with open(check, "w") as f:
            f.write("#!/bin/sh\n[ \"$PAM_USER$(cat | tr -d '\\0')\" ="
                    " joeright ]\n")
        os.chmod(check, 0o755)
        service = "h2x-check-%d" % os.getpid()
        path = "/etc/pam.d/" + service
        with open(path, "w") as f:
            f.write("auth required pam_exec.so expose_authtok quiet %s\n"
                    "account required pam_permit.so\n" % check)
        try:
            yield {"SERVICE": service}
        finally:
            os.remove(path)


# --- tickets, tokens ---

def keys(server):
    page(server)
    subprocess.run(["openssl", "genrsa", "-out", server.path("key"), "2048"],
                   check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["openssl", "rsa", "-in", server.path("key"), "-pubout",
                    "-out", server.path("key.pub")], check=True,
                   stderr=subprocess.DEVNULL)


def pubtkt(site):
    """A ticket with a signature, and one with another name in it."""
    ticket = "uid=joe;validuntil=%d" % (time.time() + 600)
    signed = subprocess.run(
        ["openssl", "dgst", "-sha1", "-sign", site.server.path("key")],
        input=ticket.encode(), stdout=subprocess.PIPE, check=True).stdout
    sig = ";sig=" + base64.b64encode(signed).decode()

    def cookie(text):
        for old, new in (("%", "%25"), ("=", "%3D"), (";", "%3B"),
                         ("+", "%2B"), ("/", "%2F")):
            text = text.replace(old, new)
        return {"cookie": "auth_pubtkt=" + text}
    mixed(site, [
        Ask("/in/page", headers=cookie(ticket + sig), has=PAGE),
        Ask("/in/page", 307, headers=cookie(
            ticket.replace("joe", "jim") + sig)),
        Ask("/in/page", 307, fields={"location": "^http://login.test/"})])


def auth_tkt(site):
    secret, when = b"0123456789abcdef", int(time.time())
    digest0 = hashlib.md5(struct.pack(">4BL", 0, 0, 0, 0, when) + secret
                          + b"joe\0\0").hexdigest()
    digest = hashlib.md5(digest0.encode() + secret).hexdigest()
    ticket = digest + "%08xjoe!" % when
    mixed(site, [
        Ask("/in/page", headers={"cookie": "auth_tkt=" + ticket}, has=PAGE),
        Ask("/in/page", 307, headers={
            "cookie": "auth_tkt=" + ticket.replace("joe", "jim")}),
        Ask("/in/page", 307, fields={"location": "^http://login.test/"})])


def mixed(site, asks):
    """As for cases with asks, which here are made when the server runs."""
    for ask in asks:
        ask.check(site.one(ask))
    for ask, answer in site.many(asks):
        ask.check(answer)


def token(secret, **claims):
    def part(value):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=")
    text = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    return (text + b"." + part(hmac.new(secret, text, "sha256").digest())
            ).decode()


SECRET = b"a secret of thirty-two characters"
BEARER = [
    Ask("/in/page", has=PAGE, headers={"authorization": "Bearer " + token(
        SECRET, sub="joe", iss="here", iat=int(time.time()),
        exp=int(time.time()) + 36000)}),
    Ask("/in/page", 401, headers={"authorization": "Bearer " + token(
        b"another secret", sub="joe", exp=int(time.time()) + 36000)}),
    Ask("/in/page", 401)]


@contextlib.contextmanager
def cas():
    """A CAS server that knows the ticket ST-joe."""
    def handle(request):
        good = "ticket=ST-joe" in request.path
        request.answer(
            "<cas:serviceResponse xmlns:cas='http://www.yale.edu/tp/cas'>%s"
            "</cas:serviceResponse>\n" % (
                "<cas:authenticationSuccess><cas:user>joe</cas:user>"
                "</cas:authenticationSuccess>" if good else
                "<cas:authenticationFailure code='INVALID_TICKET'>no"
                "</cas:authenticationFailure>"))
    with backend.Backend(handle) as one:
        yield {"CAS": one.port}


def cas_files(server):
    page(server)
    os.mkdir(server.path("cas"))
    os.chmod(server.path("cas"), 0o777)


def cas_flow(site):
    """Login, ticket, cookie, page."""
    login = Ask("/in/page", 302, fields={"location": "^http://login.test/"})
    login.check(site.one(login))
    good = Ask("/in/page?ticket=ST-joe", 302,
               fields={"set-cookie": "MOD_AUTH_CAS"})
    answer = site.one(good)
    good.check(answer)
    cookie = "; ".join(v.split(";")[0] for v in answer.all("set-cookie"))
    mixed(site, [Ask("/in/page", headers={"cookie": cookie}, has=PAGE),
                 login])


IDP = """<EntityDescriptor entityID="http://idp.test/"
  xmlns="urn:oasis:names:tc:SAML:2.0:metadata"><IDPSSODescriptor
  protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
  <SingleSignOnService Location="http://idp.test/login"
  Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"/>
  </IDPSSODescriptor></EntityDescriptor>
"""


def mellon_files(server):
    keys(server)
    server.write("idp.xml", IDP)


# --- LDAP: a server of its own ---

LDIF = """dn: dc=test
objectClass: dcObject
objectClass: organization
o: test

dn: uid=joe,dc=test
objectClass: account
objectClass: posixAccount
cn: joe
uidNumber: 60001
gidNumber: 60001
homeDirectory: {home}
userPassword: right

dn: apacheServerName=localhost,dc=test
objectClass: apacheConfig
apacheServerName: localhost
apacheDocumentRoot: {home}/one
"""

#: The class of libapache2-mod-vhost-ldap, as its documentation has it.
VHOST_SCHEMA = "\n".join(
    "attributetype ( 1.3.6.1.4.1.99999.1.%d NAME '%s' EQUALITY caseExactMatch "
    "SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )" % pair for pair in enumerate((
        "apacheServerName", "apacheServerAlias", "apacheDocumentRoot",
        "apacheServerAdmin", "apacheScriptAlias", "apacheSuexecUid",
        "apacheSuexecGid", "apacheExtConfigObject"))) + """
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'apacheConfig' SUP top STRUCTURAL
 MUST ( apacheServerName $ apacheDocumentRoot )
 MAY ( cn $ apacheServerAlias $ apacheServerAdmin $ apacheScriptAlias $
 apacheSuexecUid $ apacheSuexecGid ) )
"""


@contextlib.contextmanager
def ldap():
    """slapd with a user and a virtual host."""
    with lib_server.free_ports(1) as (port,), \
            tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        for sub in ("db", "public_html", "one"):
            os.mkdir(os.path.join(d, sub))
        for name in ("public_html/page", "one/page"):
            with open(os.path.join(d, name), "w") as f:
                f.write(PAGE)
        paths = {name: os.path.join(d, name)
                 for name in ("conf", "ldif", "schema")}
        with open(paths["schema"], "w") as f:
            f.write(VHOST_SCHEMA)
        with open(paths["ldif"], "w") as f:
            f.write(LDIF.format(home=d))
        with open(paths["conf"], "w") as f:
            f.write("".join("include /etc/ldap/schema/%s.schema\n" % name
                            for name in ("core", "cosine", "nis"))
                    + "include %s\nmodulepath /usr/lib/ldap\n"
                      "moduleload back_mdb\ndatabase mdb\nsuffix dc=test\n"
                      "directory %s/db\n" % (paths["schema"], d))
        subprocess.run(["slapadd", "-f", paths["conf"], "-l", paths["ldif"]],
                       check=True, stderr=subprocess.DEVNULL)
        process = subprocess.Popen(
            ["slapd", "-f", paths["conf"], "-h",
             "ldap://127.0.0.1:%d" % port, "-d", "0"],
            stderr=subprocess.DEVNULL)
        try:
            lib_server.wait_for(lambda: answers(port), 20, "slapd")
            yield {"LDAP": port, "HOME": d}
        finally:
            process.terminate()
            process.wait(20)


def answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def login_form(site):
    """A form with joe's password gives REMOTE_USER, and the handler still
    reads it; one with a wrong password does not."""
    def form(password):
        return dict(method="POST", headers={
            "content-type": "application/x-www-form-urlencoded"},
            body=b"login=joe&password=%s&more=%s" % (password, b"x" * 3000))
    mixed(site, [
        Ask("/cgi/form", has="user=joe length=30\\d\\d", **form(b"right")),
        Ask("/cgi/form", has="user= length=30\\d\\d", **form(b"wrong"))])


def form_script(server):
    server.write("cgi/form", "#!/bin/sh\nprintf 'Content-Type: text/plain"
                 "\\n\\nuser=%s length=%s' \"$REMOTE_USER\" "
                 "$(head -c $CONTENT_LENGTH | wc -c)\n", 0o755)


def gssapi(site):
    ask = Ask("/in/page", 401, fields={"www-authenticate": "Negotiate"})
    bad = Ask("/in/page", 401, headers={"authorization": "Negotiate YWJj"})
    mixed(site, [ask, bad])


CASES = [
    Case("authnz_external", "libapache2-mod-authnz-external",
         "authnz_external" + BASIC_MODULES,
         "DefineExternalAuth check pipe ${DIR}/htdocs/check\n"
         + LOCATION % "AuthBasicProvider external\nAuthExternal check",
         BASIC, files=checker),
    Case("authn_sasl", "libapache2-mod-authn-sasl sasl2-bin",
         "authn_sasl" + BASIC_MODULES,
         LOCATION % "AuthBasicProvider sasl\nAuthSaslPwcheckMethod sasldb\n"
         "AuthSaslDbPath ${DIR}/sasldb2\nAuthSaslRealm here", BASIC,
         files=sasl_users),
    Case("authn_yolo", "libapache2-mod-authn-yolo",
         "authn_yolo" + BASIC_MODULES, LOCATION % "AuthBasicProvider yolo",
         [GOOD, NOBODY], files=page),
    Case("auth_plain", "libapache2-mod-auth-plain",
         "auth_plain" + BASIC_MODULES,
         LOCATION % "AuthBasicProvider plain\n"
         "AuthPlainUserFile ${DIR}/htdocs/users", BASIC, files=plain_users),
    Case("authnz_pam", "libapache2-mod-authnz-pam",
         "authnz_pam" + BASIC_MODULES,
         LOCATION % "AuthBasicProvider PAM\nAuthPAMService @SERVICE@", BASIC,
         files=page, backend=pam_service),
    Case("intercept_form_submit", "libapache2-mod-intercept-form-submit",
         "authnz_pam intercept_form_submit cgid alias" + BASIC_MODULES, """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
<Location /cgi>
    InterceptFormPAMService @SERVICE@
    InterceptFormLogin login
    InterceptFormPassword password
</Location>
""", files=form_script, check=login_form, backend=pam_service),
    Case("authz_unixgroup", "libapache2-mod-authz-unixgroup",
         "authz_unixgroup authn_file" + BASIC_MODULES,
         LOCATION.replace("Require valid-user",
                          "Require unix-group www-data")
         % "AuthBasicProvider file\nAuthUserFile ${DIR}/htdocs/users",
         [Ask("/in/page", headers=basic("www-data", "right"), has=PAGE),
          Ask("/in/page", 401, headers=basic("joe", "right"))],
         files=htpasswd),
    Case("lookup_identity", "libapache2-mod-lookup-identity",
         "lookup_identity authn_file" + BASIC_MODULES,
         LOCATION % "AuthBasicProvider file\n"
         "AuthUserFile ${DIR}/htdocs/users\n"
         "LookupUserGECOS FULL_NAME\nHeader set Full \"%{FULL_NAME}e\"",
         [Ask("/in/page", headers=basic("www-data", "right"), has=PAGE,
              fields={"full": "^www-data$"})], files=htpasswd),
    Case("auth_pubtkt", "libapache2-mod-auth-pubtkt",
         "auth_pubtkt authn_core authz_user", """
TKTAuthPublicKey ${DIR}/key.pub
TKTAuthDigest sha1
<Location /in>
    AuthType mod_auth_pubtkt
    TKTAuthLoginURL http://login.test/
    Require valid-user
</Location>
""", files=keys, check=pubtkt),
    Case("auth_tkt", "libapache2-mod-auth-tkt",
         "auth_tkt authn_core authz_user", """
TKTAuthSecret 0123456789abcdef
<Location /in>
    AuthType None
    TKTAuthLoginURL http://login.test/
    TKTAuthIgnoreIP on
    Require valid-user
</Location>
""", files=page, check=auth_tkt),
    Case("auth_cas", "libapache2-mod-auth-cas",
         "auth_cas authn_core authz_user", """
CASCookiePath ${DIR}/cas/
CASLoginURL http://login.test/login
CASValidateURL http://127.0.0.1:@CAS@/serviceValidate
<Location /in>
    AuthType CAS
    Require valid-user
</Location>
""", files=cas_files, check=cas_flow, backend=cas),
    Case("auth_mellon", "libapache2-mod-auth-mellon",
         "auth_mellon authn_core authz_user", """
<Location />
    MellonIdPMetadataFile ${DIR}/htdocs/idp.xml
    MellonSPPrivateKeyFile ${DIR}/key
    MellonEndpointPath /mellon
</Location>
<Location /in>
    AuthType Mellon
    MellonEnable auth
    Require valid-user
</Location>
""", [Ask("/mellon/metadata", has="<SPSSODescriptor"),
      Ask("/in/page", 303, fields={"location": "/mellon/login"}),
      Ask("/mellon/login?ReturnTo=https%3A%2F%2Flocalhost%2F", 303,
          fields={"location": "^http://idp.test/login\\?SAMLRequest="})],
         files=mellon_files),
    Case("auth_openidc", "libapache2-mod-auth-openidc",
         "auth_openidc authn_core authz_user", """
OIDCProviderIssuer https://op.test
OIDCProviderAuthorizationEndpoint https://op.test/authorize
OIDCProviderTokenEndpoint https://op.test/token
OIDCProviderJwksUri https://op.test/jwks
OIDCClientID me
OIDCClientSecret secret
OIDCRedirectURI https://localhost/to/back
OIDCCryptoPassphrase passphrase
OIDCOAuthVerifySharedKeys "plain##%s"
<Location /in>
    AuthType oauth20
    Require valid-user
</Location>
<Location /to>
    AuthType openid-connect
    Require valid-user
</Location>
""" % SECRET.decode(),
         BEARER + [Ask("/to/page", 302, headers={"accept": "text/html"},
                       fields={
             "location": "^https://op.test/authorize\\?.*state=",
             "set-cookie": "mod_auth_openidc_state"})], files=page),
    Case("oauth2", "libapache2-mod-oauth2", "oauth2 authn_core authz_user", """
<Location /in>
    AuthType oauth2
    OAuth2TokenVerify plain "%s"
    Require valid-user
</Location>
""" % SECRET.decode(), BEARER, files=page),
    Case("auth_gssapi", "libapache2-mod-auth-gssapi",
         "auth_gssapi authn_core authz_user", """
<Location /in>
    AuthType GSSAPI
    AuthName here
    Require valid-user
</Location>
""", files=page, check=gssapi),
    Case("ldap_userdir", "libapache2-mod-ldap-userdir slapd",
         "ldap_userdir", """
LDAPUserDir public_html
LDAPUserDirServer 127.0.0.1:@LDAP@
LDAPUserDirBaseDN dc=test
<Directory @HOME@>
    Require all granted
</Directory>
""", [Ask("/~joe/page", has=PAGE), Ask("/~jim/page", 404)], backend=ldap),
    Case("vhost_ldap", "libapache2-mod-vhost-ldap slapd", "ldap vhost_ldap",
         """
VhostLDAPEnabled on
VhostLDAPUrl ldap://127.0.0.1:@LDAP@/dc=test
<Directory @HOME@>
    Require all granted
</Directory>
""", [Ask("/page", has=PAGE)], backend=ldap),
]
