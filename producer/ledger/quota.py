"""Quotas of stored bytes: the statuses of the script as errors with a remedy."""

from __future__ import annotations

from typing import Final

from ..errors import StorageQuotaExceeded
from .records import EnqueueStatus, QueueLimits

#: Statuses of writes that exceed a quota.
QUOTA_STATUSES: Final = (EnqueueStatus.ACCOUNT_FULL, EnqueueStatus.STORAGE_FULL)


def quota_exceeded(
    status: EnqueueStatus, account: str, limits: QueueLimits
) -> StorageQuotaExceeded:
    """Return the error of a write that exceeds the quota of `status`."""
    if status is EnqueueStatus.ACCOUNT_FULL:
        return StorageQuotaExceeded(
            f"the images, items and results of {account} would exceed its quota of "
            f"{limits.max_account_bytes >> 20:,} MiB (BLIPLINE_GATEWAY_QUOTA_MB): delete batches "
            "that are no longer needed, choose a shorter keep_s, or wait until results and images "
            "expire"
        )
    return StorageQuotaExceeded(
        "the images, items and results of all names would exceed "
        f"{limits.max_total_bytes >> 20:,} MiB (BLIPLINE_GATEWAY_TOTAL_QUOTA_MB): try again later"
    )
