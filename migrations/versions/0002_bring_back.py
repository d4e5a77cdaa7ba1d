"""Deleted profiles that can be brought back, and keys that stay revoked.

Revision 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_profiles",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("server_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=True),
        sa.Column("public_key", sa.String(44), nullable=False),
        sa.Column("preshared_key", sa.LargeBinary(), nullable=False),
        sa.Column("address_index", sa.BigInteger(), nullable=False),
        sa.Column("ipv4_address", sa.String(15), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("notes", sa.String(1000), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_revision", sa.Integer(), nullable=True),
        sa.Column("rx_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tx_bytes", sa.BigInteger(), nullable=False),
        sa.Column("latest_handshake", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deleted_profiles"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_deleted_profiles_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name="fk_deleted_profiles_server_id"),
        sa.UniqueConstraint("public_key", name="uq_deleted_profiles_public_key"),
    )
    op.create_index("ix_deleted_profiles_user_id", "deleted_profiles", ["user_id"])
    op.create_index("ix_deleted_profiles_deleted_at", "deleted_profiles", ["deleted_at"])
    op.create_table(
        "revoked_keys",
        sa.Column("public_key", sa.String(44), nullable=False),
        sa.Column("server_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_absent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("public_key", name="pk_revoked_keys"),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name="fk_revoked_keys_server_id"),
    )
    op.create_index("ix_revoked_keys_confirmed_absent_at", "revoked_keys", ["confirmed_absent_at"])
    op.create_index("ix_vpn_profiles_user_id_id", "vpn_profiles", ["user_id", "id"])
    with op.batch_alter_table("released_addresses") as table:
        table.add_column(sa.Column("kept_until", sa.DateTime(timezone=True), nullable=True))
