"""An invoice as a PDF of one page or more, drawn with the PDF core fonts, so that no font file is needed."""

from __future__ import annotations

from datetime import UTC

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from .billing_tables import Invoice
from .postings import dollars

_WIDTHS = (110.0, 20.0, 50.0)


def render_pdf(invoice: Invoice, *, issuer: str) -> bytes:
    """The bytes of an invoice's PDF. The same invoice always gives the same bytes."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(invoice.issued_at.astimezone(UTC))
    pdf.set_title(f"Invoice {invoice.number}")
    pdf.set_author(_latin(issuer))
    pdf.set_auto_page_break(True, margin=20)
    pdf.add_page()
    _heading(pdf, invoice, issuer)
    _table(pdf, invoice)
    pdf.ln(6)
    pdf.set_font("Helvetica", size=9)
    pdf.set_text_color(90, 90, 90)
    state = f"Paid on {invoice.paid_at:%Y-%m-%d}." if invoice.paid_at else f"Status: {invoice.status}."
    pdf.multi_cell(0, 5, f"{state} Amounts are in US dollars.", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    return bytes(pdf.output())


def _heading(pdf: FPDF, invoice: Invoice, issuer: str) -> None:
    pdf.set_font("Helvetica", style="B", size=20)
    pdf.cell(0, 12, "Invoice", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("Helvetica", size=10)
    facts = (
        ("Number", invoice.number),
        ("Date", f"{invoice.issued_at:%Y-%m-%d}"),
        ("Period", f"{invoice.period_start:%Y-%m-%d} to {invoice.period_end:%Y-%m-%d}"),
        ("From", issuer),
        ("To", invoice.party_name),
    )
    for name, value in facts:
        pdf.set_font("Helvetica", style="B", size=10)
        pdf.cell(25, 6, name)
        pdf.set_font("Helvetica", size=10)
        pdf.cell(0, 6, _latin(value), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(8)


def _table(pdf: FPDF, invoice: Invoice) -> None:
    pdf.set_font("Helvetica", style="B", size=10)
    pdf.set_fill_color(238, 240, 244)
    for width, name, align in zip(_WIDTHS, ("Description", "Count", "Amount"), "LRR", strict=True):
        pdf.cell(width, 8, name, fill=True, align=align)
    pdf.ln(8)
    pdf.set_font("Helvetica", size=10)
    for line in invoice.lines:
        cells = (_latin(str(line["text"]))[:70], str(line["quantity"]), dollars(int(line["amount"])))
        for width, value, align in zip(_WIDTHS, cells, "LRR", strict=True):
            pdf.cell(width, 8, value, border="B", align=align)
        pdf.ln(8)
    pdf.set_font("Helvetica", style="B", size=10)
    pdf.cell(_WIDTHS[0] + _WIDTHS[1], 9, "Total")
    pdf.cell(_WIDTHS[2], 9, dollars(invoice.total), align="R")
    pdf.ln(9)


def _latin(text: str) -> str:
    """Text the core fonts can show: characters beyond Latin-1 become question marks."""
    return text.encode("latin-1", "replace").decode("latin-1")
