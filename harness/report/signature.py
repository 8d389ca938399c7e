"""What the first screen of a page says of its signature: none yet, or by whom, when and with which key.

Signing writes it into the page before it signs the page with everything else. What it says is a claim;
``harness verify`` proves it. The digest in ``STYLE``, beside the signed statements, lets a browser that
opens the page from disk tell a page that was made of another decision.
"""

import dataclasses
import re

from markupsafe import Markup

from harness.language import _, speaking

STYLE = "page.css"
_MARKED = re.compile(r"<!--signature-->.*?<!--/signature-->", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Signature:
    """Who signs a page: ``folder`` is where its statements lie, seen from the page."""

    owner: str
    keyid: str
    expires: str
    signed_at: str
    folder: str


def marked(content: Markup) -> Markup:
    """Return what stands in the place of the signature."""
    return Markup("<!--signature-->") + content + Markup("<!--/signature-->")


def unsigned() -> Markup:
    """Return what a page says that nobody has signed."""
    text = _("Anybody could have changed this page. harness sign binds it to the runs it rests on.")
    content = Markup('<p><span class="tag">{}</span> {}</p>').format(_("unsigned"), text)
    return marked(content)


def signed_page(page: str, signature: Signature) -> str:
    """Return a page that says who signed it, in its own language."""
    spoken = re.search(r'<html lang="(\w+)"', page)
    with speaking(spoken[1] if spoken else "en"):
        content = _signed(signature)
    return _MARKED.sub(lambda _match: marked(content), page, count=1)


def style(signoff_digest: str) -> str:
    """Return the style sheet that tells a page which ``signoff.json`` was signed."""
    return f'#signature {{ --signoff: "{signoff_digest}"; }}\n'


def _signed(signature: Signature) -> Markup:
    text = _("Signed by {owner} on {day}, with key {key}, which is valid until {expires}.")
    said = Markup.escape(text).format(
        owner=Markup("<bdi>{}</bdi>").format(signature.owner),
        day=signature.signed_at,
        key=Markup("<code>{}</code>").format(signature.keyid[:12]),
        expires=signature.expires,
    )
    files = Markup(", ").join(
        Markup('<a href="{0}/{1}">{1}</a>').format(signature.folder, name)
        for name in ("test-result.dsse.json", "verification-summary.dsse.json")
    )
    lines = (
        Markup('<link rel="stylesheet" href="{}/{}">').format(signature.folder, STYLE),
        Markup("<p>{}</p>").format(said),
        Markup("<p>{} {}</p>").format(_("The signed statements:"), files),
        Markup("<p>{}</p><pre><code>{}</code></pre>").format(
            _("This is what the page says of itself. Prove it with the public key of the signer:"),
            "harness verify . --key KEY.pub.json",
        ),
        Markup(
            '<p id="signature-state" role="status" data-match="{}" data-other="{}" data-none="{}"></p>'
        ).format(
            _("The decision on this page is the one that was signed."),
            _(
                "THIS PAGE DOES NOT SHOW THE SIGNED DECISION: its digest is not the one in the statement."
            ),
            _("The statement is not beside this page, so nothing was compared."),
        ),
    )
    return Markup("\n").join(lines)
